// Times in the reader's own zone, and new mail by itself. Everything works without this, on reload and in UTC.
"use strict";

const SECONDS = 2;

function localise(root) {
  const today = new Date().toDateString();
  for (const element of root.querySelectorAll("time[datetime]")) {
    const time = new Date(element.dateTime);
    element.title = time.toLocaleString();
    if ("full" in element.dataset) {
      element.textContent = time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
    } else if (time.toDateString() === today) {
      element.textContent = time.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    } else {
      element.textContent = time.toLocaleDateString(undefined, { day: "numeric", month: "short", year: "numeric" });
    }
  }
}

async function look(list) {
  const { newest } = await (await fetch("/newest")).json();
  const known = Number(list.dataset.newest);
  if (newest === known) return;
  const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
  const fresh = page.getElementById("list");
  if (!fresh) return;
  const focused = list.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const shown = new Set([...list.querySelectorAll(".mails a")].map((link) => link.getAttribute("href")));
  localise(fresh);
  for (const link of fresh.querySelectorAll(".mails a")) {
    if (!shown.has(link.getAttribute("href"))) link.classList.add("new");
  }
  list.replaceChildren(...fresh.childNodes);
  list.dataset.newest = fresh.dataset.newest;
  if (focused) list.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  document.querySelector(".total").replaceWith(page.querySelector(".total"));
  const count = Number(fresh.dataset.newest) - known;
  document.getElementById("news").textContent = count > 0 ? `${count} new ${count === 1 ? "mail" : "mails"}` : "";
}

async function follow(list) {
  for (;;) {
    await new Promise((resume) => setTimeout(resume, SECONDS * 1000));
    if (document.hidden) continue;
    try {
      await look(list);
    } catch {
      continue; // the sink is away; it may come back
    }
  }
}

localise(document);
const list = document.getElementById("list");
if (list && "newest" in list.dataset) follow(list);
