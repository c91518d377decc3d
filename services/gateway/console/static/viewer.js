// A viewer's links to its maker's pages are taken out: nothing here leads to another host.

function removeOutward(root) {
  for (const link of root.querySelectorAll("a[href]")) {
    if (/^https?:$/.test(link.protocol) && link.origin !== location.origin) link.remove();
  }
}

new MutationObserver(() => removeOutward(document)).observe(document.body, { childList: true, subtree: true });
removeOutward(document);
