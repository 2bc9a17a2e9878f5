"use strict";

const element = (id) => document.getElementById(id);
let model, recognition, microphone;

function showError(text) {
  element("error").textContent = text;
  element("error").hidden = false;
}

function showPartial(message) {
  // A greedy search takes nothing back; what may still change, if the model says so, is shown in grey.
  const stable = message.stable_text ?? message.text;
  element("stable").textContent = stable;
  element("open").textContent = message.text.startsWith(stable) ? message.text.slice(stable.length) : "";
  element("status").textContent = `${message.seconds.toFixed(1)} s heard`;
  if ("is_endpoint" in message) element("stop-label").hidden = false;
  if (message.is_endpoint && microphone && element("stop-at-end").checked) stopRecording();
}

function showFinal(message) {
  element("stable").textContent = message.text;
  element("open").textContent = "";
  element("status").textContent = `${message.seconds.toFixed(1)} s, words: ${message.words.length}`;
  const rows = message.words.map((word) => {
    const row = document.createElement("tr");
    for (const value of [word.word, word.start_seconds?.toFixed(2), word.end_seconds?.toFixed(2), word.confidence?.toFixed(3)]) {
      row.insertCell().textContent = value ?? "";
    }
    return row;
  });
  element("words").tBodies[0].replaceChildren(...rows);
  element("words").hidden = rows.length === 0;
}

function setBusy(busy) {
  document.body.dataset.state = busy ? "busy" : "ready";
  element("file").disabled = busy;
  element("record").disabled = busy && !microphone;
  element("record").textContent = microphone ? "Stop" : "Record";
  element("record").classList.toggle("recording", Boolean(microphone));
}

function clear() {
  element("error").hidden = true;
  element("words").hidden = true;
  element("stable").textContent = element("open").textContent = "";
  element("status").textContent = "";
}

function begin() {
  recognition = new Recognition(model, {
    partial: showPartial,
    final(message) { showFinal(message); finished(); },
    error(text) { showError(text); finished(); },
  });
}

async function finished() {
  const open = microphone;
  microphone = undefined;
  setBusy(false);
  if (open) await open.stop();
}

async function openFile(file) {
  clear();
  setBusy(true);
  let samples;
  try {
    samples = await decodeFile(file, model.sample_rate);
  } catch {
    showError(`This browser cannot decode ${file.name}.`);
    setBusy(false);
    return;
  }
  begin();
  const piece = Math.floor(model.sample_rate / 2);
  for (let start = 0; start < samples.length && !recognition.done; start += piece) {
    await recognition.send(samples.subarray(start, start + piece));
  }
  await recognition.end();
}

async function startRecording() {
  clear();
  setBusy(true);
  begin();
  const current = recognition;
  try {
    const open = await openMicrophone(model.sample_rate, (samples) => current.send(samples));
    if (current.done) {
      await open.stop();
      return;
    }
    microphone = open;
    setBusy(true);
  } catch (error) {
    current.finish("error", `The microphone cannot be used: ${error.message}`);
  }
}

async function stopRecording() {
  const open = microphone;
  microphone = undefined;
  setBusy(true);
  await open.stop();
  await recognition.end();
}

async function start() {
  const response = await fetch("v1/models");
  [model] = (await response.json()).models;
  const how = model.streaming ? "words appear while you speak" : "needs the whole recording before it answers";
  element("model").textContent = `${model.name}, version ${model.version}: ${how}; up to ${model.limit_seconds} s.`;
  element("file").onchange = (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) openFile(file);
  };
  element("record").onclick = () => (microphone ? stopRecording() : startRecording());
  setBusy(false);
}

start().catch((error) => showError(`The server does not answer: ${error.message}`));
