// Runs in the browser's audio thread: passes on what the microphone gives, 1024 samples at a time.
class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Float32Array(1024);
    this.count = 0;
  }

  process([channels]) {
    for (const sample of channels[0] ?? []) {
      this.piece[this.count++] = sample;
      if (this.count === this.piece.length) {
        this.port.postMessage(this.piece.slice());
        this.count = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
