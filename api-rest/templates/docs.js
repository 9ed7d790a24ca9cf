// Shows each form's URL as a curl line, and the beginning of its answer.
"use strict";

const SHOWN_BYTES = 20000;

function url(form) {
  const given = [...new FormData(form)].filter(([, value]) => value !== "");
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(value).replace(/%(2C|3A|2F)/g, decodeURIComponent)}`);
  return form.action + (query.length ? "?" + query.join("&") : "");
}

async function beginning(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (text.length < SHOWN_BYTES) {
    const { done, value } = await reader.read();
    if (done) return text;
    text += decoder.decode(value, { stream: true });
  }
  reader.cancel();
  return text.slice(0, SHOWN_BYTES) + "\n…";
}

async function ask(form) {
  const shown = document.createElement("pre");
  form.querySelector("output").replaceChildren(shown);
  try {
    const response = await fetch(url(form));
    const headers = ["content-type", "etag", "link"].filter((name) => response.headers.has(name));
    const head = headers.map((name) => `${name}: ${response.headers.get(name)}`);
    shown.textContent = [`${response.status}`, ...head, "", await beginning(response)].join("\n");
  } catch (error) {
    shown.textContent = String(error);
  }
}

for (const form of document.forms) {
  const curl = form.querySelector(".curl code");
  const show = () => { curl.textContent = `curl '${url(form).replaceAll("'", "%27")}'`; };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => { event.preventDefault(); ask(form); });
  show();
}
