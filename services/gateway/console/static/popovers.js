// A form in a popover closes it when it is sent: what came of it is said on the page below.

document.addEventListener("submit", (event) => {
  event.target.closest("[popover]")?.hidePopover();
});
