// Audio to the server, sample by sample, and its words back: one Recognition is one WebSocket is one stream.
"use strict";

class Recognition {
  // model: an entry of /v1/models. on: {partial(message), final(message), error(text)}; one of the last two comes once.
  constructor(model, on) {
    this.on = on;
    this.done = false;
    const url = new URL(`v1/models/${encodeURIComponent(model.name)}:stream`, document.baseURI);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.opened = new Promise((resolve) => { this.socket.onopen = resolve; });
    this.socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    this.socket.onclose = () => this.finish("error", "The server closed the connection.");
  }

  receive(message) {
    if (message.type === "partial" && !this.done) this.on.partial(message);
    if (message.type === "final") this.finish("final", message);
    if (message.type === "error") this.finish("error", message.error);
  }

  finish(how, what) {
    if (this.done) return;
    this.done = true;
    this.on[how](what);
    this.socket.close();
  }

  // samples: Float32Array in -1..1 at the model's sample rate. Resolves when the connection has taken most of it.
  async send(samples) {
    await this.opened;
    while (!this.done && this.socket.bufferedAmount > 1 << 20) await new Promise((resolve) => setTimeout(resolve, 20));
    if (!this.done) this.socket.send(littleEndian(samples));
  }

  async end() {
    await this.opened;
    if (!this.done) this.socket.send(JSON.stringify({type: "end"}));
  }
}

function littleEndian(samples) {
  const view = new DataView(new ArrayBuffer(4 * samples.length));
  samples.forEach((sample, i) => view.setFloat32(4 * i, sample, true));
  return view.buffer;
}

// A file's samples: the browser decodes and resamples, the channels are averaged.
async function decodeFile(file, sampleRate) {
  const context = new OfflineAudioContext(1, 1, sampleRate);
  const audio = await context.decodeAudioData(await file.arrayBuffer());
  const mono = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    audio.getChannelData(channel).forEach((sample, i) => { mono[i] += sample / audio.numberOfChannels; });
  }
  return mono;
}

// The microphone at the model's sample rate; take(samples) gets pieces of it until stop() is called.
async function openMicrophone(sampleRate, take) {
  const audio = {channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  const stream = await navigator.mediaDevices.getUserMedia({audio});
  const context = new AudioContext({sampleRate});
  await context.audioWorklet.addModule("recorder.js");
  const recorder = new AudioWorkletNode(context, "recorder", {numberOfOutputs: 0});
  recorder.port.onmessage = (event) => take(event.data);
  context.createMediaStreamSource(stream).connect(recorder);
  return {
    async stop() {
      stream.getTracks().forEach((track) => track.stop());
      await context.close();
    },
  };
}
