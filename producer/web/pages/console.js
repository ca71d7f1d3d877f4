// Shows and reads times in the browser's own zone. Without scripts they are in the server's.
"use strict";
(() => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone || !("FormDataEvent" in window)) return;
  const two = (n) => String(n).padStart(2, "0");
  const day = (at) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const minute = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;

  // like `moment` and `clock` in frame.py: today's with seconds if the text has them, others with the date
  function shown(text) {
    const at = new Date(text);
    if (day(at) !== day(new Date())) return `${day(at)} ${minute(at)}`;
    return text.length > "2026-11-26T10:02Z".length ? `${minute(at)}:${two(at.getSeconds())}` : minute(at);
  }

  function localize() {
    for (const each of document.querySelectorAll("time")) each.textContent = shown(each.dateTime);
  }

  for (const each of document.querySelectorAll("[data-own]")) {
    each.textContent = each.dataset.own.replace("{zone}", zone.replaceAll("_", " "));
  }
  for (const each of document.querySelectorAll("option[data-at]")) {
    // only the last one: the name before it may contain the same text
    const parts = each.text.split(each.dataset.shown);
    const end = parts.pop();
    if (parts.length) each.text = parts.join(each.dataset.shown) + shown(each.dataset.at) + end;
  }
  for (const each of document.querySelectorAll("input[data-at]")) {
    const at = new Date(each.dataset.at);
    each.value = `${day(at)}T${minute(at)}`;
  }
  document.addEventListener("formdata", (event) => {
    for (const each of event.target.querySelectorAll("input[type=datetime-local]")) {
      if (each.value) event.formData.set(each.name, new Date(each.value).toISOString());
    }
  });
  document.addEventListener("htmx:afterSwap", localize);
  localize();
})();
