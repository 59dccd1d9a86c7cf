// A chat with the models that `doit serve` offers, by npm @mlc-ai/web-llm as it is.

import { WebWorkerMLCEngine } from "/web-llm/index.js";

const page = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
// Where web-llm keeps what it has downloaded.
const CACHES = ["webllm/model", "webllm/wasm", "webllm/config"];

let models = []; // of /models.json: records of web-llm, with what the list shows
let engine; // of the model that is chosen; undefined until it is loaded
let worker;
let retry; // what "Try again" does
let messages = []; // of the conversation, as web-llm takes them
let answering = false;

function say(text, { bad = false, progress, again } = {}) {
  page.text.textContent = text;
  page.state.classList.toggle("bad", bad);
  page.progress.hidden = progress === undefined;
  if (progress !== undefined) page.progress.value = progress;
  page.again.hidden = again === undefined;
  retry = again;
}

function fail(error, again) {
  say(String(error?.message ?? error), { bad: true, again });
}

function update() {
  page.send.textContent = answering ? "Stop" : "Send";
  page.send.disabled = !answering && (engine === undefined || page.prompt.value.trim() === "");
  page.new.disabled = answering || messages.length === 0;
  page.start.hidden = page.log.childElementCount > 0;
}

/** The features of the GPU, a set of names. */
async function gpuFeatures() {
  if (!navigator.gpu) {
    throw new Error(
      "This browser has no WebGPU. Chrome, Edge and Safari have it in their newer versions; in Chrome on Linux it may have to be switched on at chrome://flags/#enable-unsafe-webgpu.",
    );
  }
  const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    throw new Error("This browser has WebGPU, but no GPU that it may use. Its page about GPUs (chrome://gpu) says why.");
  }
  return adapter.features;
}

const lacks = (model, features) => model.required_features.filter((name) => !features.has(name));

function megabytes(size) {
  return `${(size / 1e6).toFixed(size < 1e7 ? 1 : 0)} MB`;
}

async function begin() {
  say("Looking for models …");
  const response = await fetch("/models.json", { cache: "no-store" });
  if (!response.ok) throw new Error(`The server has no list of models: ${response.statusText}`);
  const absolute = (path) => new URL(path, location.href).href;
  models = (await response.json()).map((model) => ({
    ...model,
    model: absolute(model.model),
    model_lib: absolute(model.model_lib),
  }));
  if (models.length === 0) throw new Error("dist/ has no library for webgpu.");
  await forget();
  const options = models.map(
    (model) => new Option(`${model.model_id} (${megabytes(model.size)})`, model.model_id),
  );
  page.model.replaceChildren(...options);
  const features = await gpuFeatures();
  models.forEach((model, i) => {
    const missing = lacks(model, features).join(", ");
    options[i].disabled = missing !== "";
    if (missing) options[i].text = `${model.model_id} (needs ${missing})`;
  });
  const first = options.find((option) => !option.disabled);
  if (first === undefined) {
    const missing = [...new Set(models.flatMap((model) => lacks(model, features)))].join(", ");
    throw new Error(
      `All models here need ${missing}, which this GPU or browser has not. Models in q4f32_1 and q0f32 need no 16-bit floats: build one of those.`,
    );
  }
  page.model.disabled = false;
  page.model.value = first.value;
  await load();
}

/** Delete downloads of models that were built anew since: their addresses have other digests. */
async function forget() {
  const offered = models.map((model) => new URL("../..", model.model).href);
  for (const name of globalThis.caches ? CACHES : []) {
    const cache = await caches.open(name);
    for (const request of await cache.keys()) {
      if (!offered.some((base) => request.url.startsWith(base))) await cache.delete(request);
    }
  }
}

/** Load the model that is chosen, in place of the one before. */
async function load() {
  worker?.terminate();
  engine = undefined;
  restart();
  const chosen = page.model.value;
  const current = new Worker("worker.js", { type: "module" });
  worker = current;
  say(`Loading ${chosen} …`, { progress: 0 });
  const opened = new WebWorkerMLCEngine(current, {
    appConfig: { model_list: models },
    initProgressCallback: ({ progress, text }) => {
      if (worker !== current) return;
      const stage = text.split(/[[:.]| - /)[0];
      say(`${stage} … ${Math.floor(100 * progress)} %`, { progress });
    },
  });
  const broken = new Promise((_, failed) => {
    current.onerror = (event) => failed(new Error(event.message || "The model's worker has failed."));
  });
  try {
    await Promise.race([opened.reload(chosen), broken]);
    if (worker !== current) return;
    engine = opened;
    say("Ready");
  } catch (error) {
    if (worker === current) fail(error, load);
  }
  update();
}

/** Begin a new conversation. */
function restart() {
  messages = [];
  answering = false;
  page.log.replaceChildren();
  update();
}

function show(role, text) {
  const message = document.createElement("div");
  message.className = `message ${role}`;
  message.textContent = text;
  page.log.append(message);
  message.scrollIntoView({ block: "end" });
  return message;
}

function note(message, text, bad = false) {
  const small = document.createElement("small");
  small.textContent = text;
  small.classList.toggle("bad", bad);
  message.append(small);
  small.scrollIntoView({ block: "end" });
}

async function ask(content) {
  const current = engine;
  answering = true;
  messages.push({ role: "user", content });
  show("user", content);
  const shown = show("assistant", "");
  shown.setAttribute("aria-busy", "true");
  say("Answering …");
  update();
  let answer = "";
  let usage;
  let problem;
  try {
    const chunks = await current.chat.completions.create({
      messages,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of chunks) {
      if (engine !== current) return; // another model was chosen
      answer += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage ?? usage;
      const atEnd = page.log.parentElement;
      const follows = atEnd.scrollHeight - atEnd.scrollTop - atEnd.clientHeight < 80;
      shown.textContent = answer;
      if (follows) shown.scrollIntoView({ block: "end" });
    }
  } catch (error) {
    problem = error;
  }
  if (engine !== current) return;
  shown.removeAttribute("aria-busy");
  answering = false;
  if (problem === undefined) {
    messages.push({ role: "assistant", content: answer });
    const speed = usage?.extra?.decode_tokens_per_s;
    const count = `${usage?.completion_tokens ?? 0} tokens`;
    note(shown, Number.isFinite(speed) ? `${count}, ${speed.toFixed(1)} per second` : count);
  } else {
    messages.pop(); // so that the next question does not follow one without an answer
    note(shown, String(problem?.message ?? problem), true);
  }
  say("Ready");
  update();
}

page.form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (answering) {
    engine.interruptGenerate();
  } else if (!page.send.disabled) {
    const content = page.prompt.value.trim();
    page.prompt.value = "";
    ask(content);
  }
  page.prompt.focus();
});
page.prompt.addEventListener("input", update);
page.prompt.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (!answering) page.form.requestSubmit();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && answering) engine.interruptGenerate();
});
page.model.addEventListener("change", load);
page.new.addEventListener("click", () => {
  restart();
  page.prompt.focus();
});
page.again.addEventListener("click", () => retry());

begin().catch(fail);
