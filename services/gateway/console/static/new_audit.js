// The form of a new audit: messages beside their fields, text to copy, files on their way.

const form = () => document.getElementById("new-audit");

// Messages: the server writes them beside the form; here each also goes to its field.

function findSlot(name) {
  for (let at = name; at; at = at.includes("/") ? at.slice(0, at.lastIndexOf("/")) : "") {
    const slot = document.querySelector(`[data-slot="${CSS.escape(at)}"]`);
    if (slot) return slot;
  }
  return null;
}

function findInput(slot) {
  return slot?.parentElement.querySelector(":scope > input, :scope > select, :scope > textarea");
}

// A form that has just been opened does not complain yet: what is missing stands beside it.
function showMessages() {
  const isQuiet = document.querySelector("#messages[data-quiet]") !== null;
  clearMessages();
  for (const item of document.querySelectorAll("#messages li")) {
    const slot = findSlot(item.dataset.field);
    if (!slot) continue;
    const text = item.querySelector("span").textContent;
    if (!isQuiet) {
      slot.textContent = slot.textContent ? `${slot.textContent} ${text}` : text;
      findInput(slot)?.setAttribute("aria-invalid", "true");
    }
    const jump = document.createElement("button");
    jump.type = "button";
    jump.textContent = text;
    jump.addEventListener("click", () => reveal(slot));
    item.querySelector("span").replaceChildren(jump);
  }
  showCopyButtons();
}

function clearMessages() {
  for (const slot of document.querySelectorAll("[data-slot]")) {
    if (slot.textContent) slot.textContent = "";
  }
  for (const input of document.querySelectorAll("#new-audit [aria-invalid]")) {
    input.removeAttribute("aria-invalid");
  }
}

function reveal(slot) {
  for (let at = slot.closest("details"); at; at = at.parentElement.closest("details")) at.open = true;
  const input = findInput(slot) ?? slot.parentElement.querySelector("input, select");
  slot.scrollIntoView({ block: "center" });
  input?.focus({ preventScroll: true });
}

// The answer to a start that was refused: the first field that is wrong, in the order of the form.
function revealFirst() {
  if (!form()?.hasAttribute("data-refused")) return;
  const slots = [...document.querySelectorAll("#messages li")].map((item) => findSlot(item.dataset.field));
  const first = [...document.querySelectorAll("[data-slot]")].find((slot) => slots.includes(slot));
  if (first) reveal(first);
}

// Rows: a click while another row is on its way waits for it, as the answer says how many there are.

let isGrowing = false;
const growQueue = [];

function growLater(event) {
  const button = event.target.closest?.("button[name=grow][hx-post]");
  if (!button) return;
  if (isGrowing) {
    event.preventDefault();
    event.stopImmediatePropagation();
    growQueue.push(button.value);
  }
  isGrowing = true;
}

function growNext(event) {
  if (event.target.name !== "grow" && event.detail?.ctx?.sourceElement?.name !== "grow") return;
  isGrowing = false;
  const value = growQueue.shift();
  const button = value && document.querySelector(`button[name=grow][value="${CSS.escape(value)}"]`);
  if (button) setTimeout(() => button.click());
}

// Text to copy.

function showCopyButtons() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
}

async function copy(button) {
  const code = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // no clipboard without https: select it instead
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// Files: each is sent on its own, with its digest, so that nothing is sent twice.

const TYPES = {
  safetensors: "application/vnd.safetensors",
  npz: "application/x-npz",
  csv: "text/csv",
  zip: "application/zip",
};
const HASH_BYTES = 512 << 20; // what a browser can digest: it takes all of the file in memory
const NAMES = "palimpsest.files"; // names of files by digest, on this machine only

function ending(file) {
  return file.name.toLowerCase().split(".").pop();
}

function loadNames() {
  try { return JSON.parse(localStorage.getItem(NAMES)) ?? {}; } catch { return {}; }
}

function rememberName(sha256, name) {
  const entries = Object.entries({ ...loadNames(), [sha256]: name }).slice(-500);
  try { localStorage.setItem(NAMES, JSON.stringify(Object.fromEntries(entries))); } catch { /* private mode */ }
}

function showNames() {
  const names = loadNames();
  for (const option of document.querySelectorAll("[data-sha]")) {
    const name = names[option.dataset.sha];
    if (name && !option.textContent.startsWith(name)) option.textContent = `${name} (${option.textContent})`;
  }
}

function formatBytes(n) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (n >= 1024 && unit < 3) { n /= 1024; unit += 1; }
  return `${unit && n < 100 ? n.toFixed(1) : Math.round(n)} ${units[unit]}`;
}

function toBase64(bytes) {
  return btoa(String.fromCharCode(...new Uint8Array(bytes)));
}

function toHex(bytes) {
  return [...new Uint8Array(bytes)].map((b) => b.toString(16).padStart(2, "0")).join("");
}

// The digest; null where the browser cannot compute it (a plain http page, or a very large file):
// the server then does, and answers with it.
async function digest(file) {
  if (!crypto.subtle || file.size > HASH_BYTES) return null;
  return crypto.subtle.digest("SHA-256", await file.arrayBuffer());
}

function explain(status, text) {
  if (!status) return "The connection broke. Try again: nothing of it was kept.";
  if (status === 401) return "You are signed out: sign in again in another tab, then try again.";
  let detail = "";
  try { detail = JSON.parse(text).detail; } catch { /* no problem of ours */ }
  return detail || `The server answered with status ${status}.`;
}

// What a file of this name would do here; "" if nothing is wrong with it.
function refuse(file) {
  if (["pt", "pth", "ckpt", "bin", "pkl"].includes(ending(file))) {
    return `This is a pickle, which is never opened here. Make a safetensors file of it: palimpsest convert ${file.name}`;
  }
  if (!(ending(file) in TYPES)) return "Bring weights as .safetensors, and samples as .npz, .csv or .zip.";
  if (!file.size) return "The file is empty.";
  const most = Number(form().dataset.maxBytes);
  return file.size > most ? `The file has ${formatBytes(file.size)}; an upload may have ${formatBytes(most)}.` : "";
}

function makeRow(file) {
  const row = document.createElement("li");
  const [name, size, bar, note] = ["span", "span", "progress", "span"].map((tag) => document.createElement(tag));
  name.className = "name";
  name.textContent = file.name;
  size.textContent = formatBytes(file.size);
  bar.max = 1;
  bar.setAttribute("aria-label", `Upload of ${file.name}`);
  note.className = "sub";
  row.append(name, size, bar, note);
  return { row, bar, note };
}

function send(file, sum, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/v1/artifacts");
    request.setRequestHeader("Content-Type", TYPES[ending(file)]);
    if (sum) request.setRequestHeader("Content-Digest", `sha-256=:${toBase64(sum)}:`);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded / file.size));
    request.addEventListener("load", () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(new Error(explain(request.status, request.responseText)));
    });
    request.addEventListener("error", () => reject(new Error(explain(0, ""))));
    request.send(file);
  });
}

async function findUploaded(sha256) {
  const known = [...document.querySelectorAll("#uploads option")].some((o) => o.value === `upload:${sha256}`);
  if (!known) return null;
  const answer = await fetch(`/v1/artifacts/${sha256}/upload`);
  return answer.ok ? answer.json() : null;
}

async function upload(file, list) {
  const { row, bar, note } = makeRow(file);
  list.append(row);
  try {
    const wrong = refuse(file);
    if (wrong) throw new Error(wrong);
    note.textContent = "Computing its digest …";
    const sum = await digest(file);
    const there = sum ? await findUploaded(toHex(sum)) : null;
    note.textContent = "Sending …";
    const stored = there ?? await send(file, sum, (share) => { bar.value = share; });
    bar.value = 1;
    note.textContent = there ? `Already there: ${stored.sha256.slice(0, 12)}…` : `Stored: ${stored.sha256.slice(0, 12)}…`;
    row.dataset.sha256 = stored.sha256;
    rememberName(stored.sha256, file.name);
    offer(stored, file);
    return stored.sha256;
  } catch (error) {
    bar.remove();
    note.textContent = error.message;
    note.className = "failed";
    return null;
  }
}

// Put an upload in all menus of files.
function offer(stored, file) {
  const label = `${file.name} (${stored.sha256.slice(0, 12)}…, ${formatBytes(stored.size)})`;
  if (ending(file) === "safetensors") {
    for (const menu of document.querySelectorAll("[data-weights]")) {
      if ([...menu.options].some((option) => option.value === stored.sha256)) continue;
      const option = new Option(label, stored.sha256);
      option.dataset.sha = stored.sha256;
      menu.add(option);
    }
  }
  const list = document.getElementById("uploads");
  if (![...list.options].some((option) => option.value === `upload:${stored.sha256}`)) {
    list.append(new Option(label, `upload:${stored.sha256}`));
  }
}

function fill(field, value) {
  field.value = value;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  showUse();
}

// Files that are dropped in a heap go where their names say: before, after-2, deleted, public,
// retained, base. Other weights fill the first menus that are empty, in their order.
async function takeAll(files, list) {
  const byName = new Intl.Collator("en", { numeric: true });
  for (const file of [...files].sort((one, other) => rank(one) - rank(other) || byName.compare(one.name, other.name))) {
    const sha256 = await upload(file, list);
    if (sha256) place(file, sha256);
    showUse();
  }
}

function rank(file) {
  return /^(before|original)/i.test(file.name) ? 0 : 1;
}

function place(file, sha256) {
  const kind = /^(deleted|public|retained|base|retrained)/i.exec(file.name)?.[1].toLowerCase();
  if (ending(file) !== "safetensors") {
    const field = kind && document.querySelector(`[data-file][name$="/${kind}"]`);
    if (field && !field.value) fill(field, `upload:${sha256}`);
    return;
  }
  const menus = [...document.querySelectorAll("select[data-weights]:not([multiple])")];
  if (kind === "retrained" || menus.some((menu) => menu.value === sha256)) return;
  const after = /^after\D*(\d{1,3})?/i.exec(file.name);
  const wanted = kind === "base" ? "base" : after?.[1] && `releases/0/weights/${Number(after[1]) - 1}`;
  const empty = menus.find((menu) => !menu.value && (wanted
    ? menu.name === wanted
    : menu.name !== "base" && !(after && menu.name === "original")));
  if (empty) fill(empty, sha256);
}

// Which of the files that were sent from here no field names.
function showUse() {
  const fields = [...document.querySelectorAll("#new-audit select[data-weights], #new-audit [data-file]")];
  const used = new Set(fields.flatMap((field) => field.selectedOptions ? [...field.selectedOptions].map((o) => o.value) : [field.value.replace("upload:", "")]));
  for (const row of document.querySelectorAll("#files li[data-sha256]")) {
    row.querySelector(".unused")?.remove();
    if (used.has(row.dataset.sha256)) continue;
    const note = document.createElement("strong");
    note.className = "unused";
    note.textContent = "Not used yet: choose it in a field below; “Another deletion” adds one.";
    row.append(note);
  }
  showFileNames();
}

// A field with an upload says the name of the file beside the digest.
function showFileNames() {
  const names = loadNames();
  for (const field of document.querySelectorAll("[data-file]")) {
    const box = field.closest(".param");
    let note = box.querySelector(".file-name");
    const name = names[field.value.replace("upload:", "")];
    if (!note && name) {
      note = document.createElement("p");
      note.className = "file-name sub";
      box.querySelector("[data-slot]").before(note);
    }
    if (note) note.textContent = name ?? "";
  }
}

// The name of a file that was sent from here means that upload.
function findByName(field) {
  const typed = field.value.trim();
  const found = Object.entries(loadNames()).reverse().find(([sha256, name]) => name === typed &&
    [...document.querySelectorAll("#uploads option")].some((option) => option.value === `upload:${sha256}`));
  if (found) field.value = `upload:${found[0]}`;
}

async function takeOne(file, field) {
  let list = field.parentElement.querySelector(".files");
  if (!list) {
    list = document.createElement("ul");
    list.className = "files";
    field.parentElement.append(list);
  }
  list.replaceChildren();
  const sha256 = await upload(file, list);
  if (sha256) fill(field, `${field.dataset.file ?? ""}${sha256}`);
}

const equipped = new WeakSet(); // elements that listen already

// Each field of a file takes a file that is dropped on it, and has a button to choose one.
function equipFields() {
  for (const field of document.querySelectorAll("[data-file], select[data-weights]:not([multiple])")) {
    const box = field.closest(".param");
    if (!equipped.has(box)) acceptDrops(box, (files) => files[0] && takeOne(files[0], field));
    equipped.add(box);
    if (!box.querySelector(".file-input")) addChooser(box, field);
  }
}

function addChooser(box, field) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "file";
  input.className = "file-input";
  input.id = `${field.id}-upload`;
  label.htmlFor = input.id;
  label.className = "choose";
  label.textContent = "Upload a file";
  input.setAttribute("aria-label", `Upload a file: ${box.querySelector("label").textContent}`);
  field.after(input, label);
  input.addEventListener("change", (event) => {
    event.stopPropagation();
    if (input.files[0]) takeOne(input.files[0], field);
    input.value = "";
  });
}

function acceptDrops(box, take) {
  box.addEventListener("dragover", (event) => { event.preventDefault(); box.classList.add("over"); });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    box.classList.remove("over");
    take([...event.dataTransfer.files]);
  });
}

function equipDrop() {
  const drop = document.getElementById("drop");
  if (!drop) return;
  drop.hidden = false;
  if (equipped.has(drop)) return;
  equipped.add(drop);
  const take = (files) => takeAll(files, document.getElementById("files"));
  acceptDrops(drop, take);
  const input = document.getElementById("drop-files");
  input.addEventListener("change", (event) => {
    event.stopPropagation();
    const files = [...input.files];
    input.value = "";
    take(files);
  });
}

function equip() {
  showMessages();
  equipDrop();
  equipFields();
  showNames();
  showUse();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (button) copy(button);
});
// Enter in a field checks nothing that is not checked already, and must not start an audit.
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches?.("#new-audit input")) event.preventDefault();
});
// before htmx sends the form
document.addEventListener("change", (event) => {
  if (event.target.matches?.("[data-file]")) findByName(event.target);
  if (form()?.contains(event.target)) showUse();
}, true);
document.addEventListener("click", growLater, true);
document.addEventListener("htmx:finally:request", growNext);
document.addEventListener("htmx:after:swap", equip);
equip();
revealFirst();
