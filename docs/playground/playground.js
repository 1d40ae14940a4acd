// The form and what it shows. What it says is worked out by obverse, in worker.js; here it is only put on the page.

const PATIENCE = 20_000; // milliseconds after which a computation is given up, and the form can be used again
const PAUSE = 250; // milliseconds without a key, after which what was typed is computed

const root = document.getElementById("computed");
const form = root.querySelector("form");
const field = (name) => form.elements[name];
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const say = (text) => (part("status").textContent = text);

let worker = null;
let asked = 0;
let waiting = null;
let typing = null;

// The address: what is asked stands behind the #, so that it can be shared.

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of ["encoder", "shape", "upsampling"]) {
    if (given.has(name)) field(name).value = given.get(name);
  }
  return given.has("encoder");
}

function question() {
  return { encoder: field("encoder").value, shape: field("shape").value, upsampling: field("upsampling").value };
}

function write() {
  history.replaceState(null, "", `#${new URLSearchParams(question())}`);
}

// The worker: loaded on click, asked at every change, given up when it takes too long.

function begin() {
  if (worker) return;
  say("Loading Python and obverse, 13 MB, once …");
  part("start").disabled = true;
  worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
  worker.onerror = () => fail("the worker could not be started");
  worker.onmessage = ({ data }) => {
    if (data.failed) return fail(data.failed);
    if (data.ready) {
      part("start").hidden = true;
      root.dataset.state = "ready";
      return;
    }
    if (data.id !== asked) return; // an answer to what was typed before
    clearTimeout(waiting);
    show(data.answer);
  };
  ask();
}

function ask() {
  if (!worker) return;
  write();
  asked += 1;
  worker.postMessage({ id: asked, ...question() });
  clearTimeout(waiting);
  if (root.dataset.state === "ready" || root.dataset.state === "answered") waiting = setTimeout(giveUp, PATIENCE);
}

function giveUp() {
  worker.terminate();
  worker = null;
  part("start").hidden = false;
  part("start").disabled = false;
  say("This takes longer than 20 seconds and was given up. Change it, and start again.");
}

function fail(why) {
  worker = null;
  root.dataset.state = "failed";
  part("start").disabled = false;
  say(`It cannot be loaded here: ${why}. The same answers come from obverse plan and obverse mirror.`);
}

// What is shown.

function show(answer) {
  const wrong = Boolean(answer.wrong);
  for (const name of ["encoder", "shape"]) {
    const at = wrong && (answer.at === "shape") === (name === "shape");
    field(name).setAttribute("aria-invalid", String(at));
  }
  part("wrong").hidden = !wrong;
  part("wrong").textContent = answer.wrong || "";
  part("answers").classList.toggle("stale", wrong);
  root.dataset.state = "answered";
  if (wrong) return say("Not so.");
  const { plan, mirror, sizes } = answer;
  part("answers").hidden = false;
  part("plan").replaceChildren(table(plan));
  part("mirror").replaceChildren(table(mirror.plan));
  part("notes").replaceChildren(...mirror.plan.notes.map((note) => element("li", note)));
  part("picture").innerHTML = answer.picture; // our own SVG, with every text in it escaped
  part("sizes").replaceChildren(...sizes.map((axis) => element("li", legal(axis, sizes.length))));
  part("obverse").textContent = answer.obverse;
  part("pytorch").textContent = answer.pytorch;
  say(`${text(plan.input_shape)} becomes ${text(plan.output_shape)}, and its mirror gives ${text(mirror.plan.output_shape)}.`);
}

const text = (shape) => shape.join("×");
const grouped = (number) => number.toLocaleString("en");

function element(name, content) {
  const made = document.createElement(name);
  if (content !== undefined) made.textContent = content;
  return made;
}

function row(cells, name = "td") {
  const made = element("tr");
  cells.forEach((cell, at) => {
    const one = element(at === 1 && name === "td" ? "th" : name, cell);
    if (one.tagName === "TH") one.scope = name === "td" ? "row" : "col";
    if (at > 1) one.className = "number";
    made.append(one);
  });
  return made;
}

function table(plan) {
  const made = element("table");
  const head = element("thead");
  const body = element("tbody");
  head.append(row(["", "block", "shape out", "parameters", "multiply-adds", "sees"], "th"));
  body.append(row(["", "", text(plan.input_shape), "", "", ""]));
  for (const step of plan.steps) {
    const numbers = [grouped(step.parameters), grouped(step.multiply_adds), text(step.receptive_field)];
    body.append(row([step.place, step.block, text(step.output_shape), ...numbers]));
  }
  body.append(row(["", "altogether", text(plan.output_shape), grouped(plan.parameters), grouped(plan.multiply_adds), ""]));
  made.append(head, body);
  return made;
}

const LETTERS = { 1: ["length"], 2: ["height", "width"], 3: ["depth", "height", "width"] };

function legal(axis, axes) {
  const name = (LETTERS[axes] || [])[axis.axis - 1] || `axis ${axis.axis}`;
  if (!axis.takes) return `${name} ${axis.size}: what is legal depends on the other axes`;
  return `${name} n: ${axis.takes}. No remainder: ${axis.no_remainder}. The code of ${axis.size} is that of ${axis.same_code}.`;
}

// What is typed and clicked.

form.addEventListener("submit", (event) => {
  event.preventDefault();
  begin();
});
form.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(ask, PAUSE);
});
part("examples").addEventListener("change", ({ target }) => {
  const [encoder, shape] = target.value.split(" @ ");
  if (!shape) return;
  field("encoder").value = encoder;
  field("shape").value = shape;
  ask();
});
part("share").addEventListener("click", async () => {
  write();
  try {
    await navigator.clipboard.writeText(location.href);
    say("Copied: the address holds the encoder and the shape.");
  } catch {
    say("The address above holds the encoder and the shape: copy it from there.");
  }
});
addEventListener("hashchange", () => {
  if (read()) ask();
});

const shared = read();
root.hidden = false;
document.getElementById("silent").hidden = true;
fetch(new URL("runtime/wheels.json", import.meta.url), { method: "HEAD" }).then(
  (found) => (found.ok ? say(shared ? "An encoder came with the address: start, to compute it." : "") : absent()),
  absent,
);

function absent() {
  root.dataset.state = "absent";
  part("start").disabled = true;
  say("These pages were built without the runtime, so nothing is computed here. Below is what it would say of one encoder.");
}
