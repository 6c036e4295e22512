// A page that is looked at is made anew when the worker says that something has changed. Without script it stands
// still, and everything else works.
"use strict";

(() => {
  const events = document.body.dataset.events;
  if (!events) return;
  const told = document.getElementById("told");
  const sentence = () => document.getElementById("sentence")?.textContent ?? "";
  let source = null;
  let wasLost = false;
  let isBusy = false;
  let isStale = false;

  const isChanged = (field) =>
    field.type === "checkbox"
      ? field.checked !== field.defaultChecked
      : field.type === "select-one"
        ? [...field.options].some((option) => option.selected !== option.defaultSelected && option.index > 0)
        : field.value !== field.defaultValue;

  // what somebody is writing, has written or is reading aloud stays
  const isInUse = () => {
    const focused = document.activeElement?.closest("main form");
    const selection = document.getSelection();
    const fields = [...document.querySelectorAll("main :is(input, select)")];
    return Boolean(focused) || (selection !== null && !selection.isCollapsed) || fields.some(isChanged);
  };

  const renew = async () => {
    if (isBusy || isInUse()) {
      isStale = true;
      return;
    }
    isBusy = true;
    isStale = false;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (answer.ok && !answer.redirected) {
        const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
        const main = document.getElementById("main");
        const before = sentence();
        const place = document.activeElement?.id;
        if (!isInUse()) {
          main.replaceChildren(...fresh.getElementById("main").childNodes);
          if (place) document.getElementById(place)?.focus({ preventScroll: true });
          if (sentence() !== before) told.textContent = sentence();
        }
      }
    } catch {
      isStale = true; // the worker is away; the page says what it knew
    } finally {
      isBusy = false;
    }
  };

  const watch = () => {
    source?.close();
    source = new EventSource(events);
    source.onmessage = renew;
    source.onopen = () => {
      if (wasLost) renew();
      wasLost = false;
    };
    source.onerror = () => {
      wasLost = true;
    };
  };

  // a browser keeps few connections to one place: a page that nobody sees holds none
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (source === null) {
      watch();
      renew();
    }
  });
  document.addEventListener("focusout", () => {
    if (isStale) setTimeout(renew, 100);
  });
  addEventListener("pagehide", () => source?.close());
  if (!document.hidden) watch();
})();
