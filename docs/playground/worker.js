// obverse itself, running in the browser: Python for WebAssembly, and our own wheel. Nothing is worked out here.

import { loadPyodide } from "./runtime/pyodide.mjs";

const here = new URL("./runtime/", import.meta.url);

async function start() {
  const manifest = await (await fetch(new URL("wheels.json", here))).json();
  const [python, ...wheels] = await Promise.all([
    loadPyodide({ indexURL: here.href }),
    ...manifest.wheels.map(async (name) => (await fetch(new URL(name, here))).arrayBuffer()),
  ]);
  for (const wheel of wheels) python.unpackArchive(wheel, "wheel");
  return python.runPython("from obverse.answers import answer_text\nanswer_text");
}

const ready = start();
ready.then(
  () => postMessage({ ready: true }),
  (error) => postMessage({ failed: String(error) }),
);

onmessage = async ({ data }) => {
  const answer = await ready;
  postMessage({ id: data.id, answer: JSON.parse(answer(data.encoder, data.shape, data.upsampling)) });
};
