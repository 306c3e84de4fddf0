// The film: decodes the messages of asyncade_watch.frames and draws them at the game's own speed.

const WHOLE = 0xffffffff;
const MOST_SECONDS_QUEUED = 0.6; // further behind, what was missed is skipped
const AHEAD_SECONDS = 0.12; // before the first picture: the network and the scheduler are uneven

export class Film {
  // onStep: called with the header and what is looked at, when the first picture of a step is drawn.
  constructor(canvas, onStep) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.onStep = onStep;
    this.queue = []; // pictures to draw, each with how it is made from the one before
    this.fps = 60;
    this.drawn = 0;
    this.next = null; // when the next picture is due, in milliseconds
    this.request = null;
  }

  clear() {
    this.queue = [];
    this.next = null;
    if (this.request !== null) cancelAnimationFrame(this.request);
    this.request = null;
  }

  add(buffer) {
    const { header, pictures, lookedAt } = decode(buffer);
    this.fps = header.fps;
    pictures.forEach((picture, at) => {
      this.queue.push({ picture, size: header.size, step: at ? null : { header, lookedAt } });
    });
    if (this.request === null) this.request = requestAnimationFrame((now) => this.draw(now));
  }

  draw(now) {
    this.request = null;
    if (!this.queue.length) {
      this.next = null; // begins anew with a little in hand
      return;
    }
    this.request = requestAnimationFrame((later) => this.draw(later));
    const period = 1000 / this.fps;
    if (this.next === null) this.next = now + AHEAD_SECONDS * 1000;
    if (this.queue.length > MOST_SECONDS_QUEUED * this.fps) {
      this.next = now - (this.queue.length - AHEAD_SECONDS * this.fps) * period;
    }
    let changed = false;
    // Half a period of tolerance: a display of 60 Hz is never exactly as fast as the game.
    while (this.queue.length && now >= this.next - period / 2) {
      this.apply(this.queue.shift());
      this.next += period;
      this.drawn += 1;
      changed = true;
    }
    if (changed) this.context.putImageData(this.image, 0, 0);
  }

  apply({ picture, size, step }) {
    const [height, width] = size;
    if (this.canvas.width !== width || this.canvas.height !== height || !this.image) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.canvas.parentElement.toggleAttribute("data-square", width === height);
    }
    if (step) this.onStep(step.header, step.lookedAt);
    const { places, rgb } = picture;
    for (let at = 0; at < rgb.length / 3; at++) {
      const colour = 0xff000000 | (rgb[3 * at + 2] << 16) | (rgb[3 * at + 1] << 8) | rgb[3 * at];
      this.pixels[places ? places[at] : at] = colour;
    }
  }
}

function decode(buffer) {
  const view = new DataView(buffer);
  let at = 4 + view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, at - 4)));
  const pixels = header.size[0] * header.size[1];
  const pictures = [];
  for (let number = 0; number < header.pictures; number++) {
    const count = view.getUint32(at, true);
    at += 4;
    let places = null; // of a whole picture
    if (count !== WHOLE) {
      places = new Uint16Array(buffer.slice(at, at + 2 * count)); // slice: it is not aligned
      at += 2 * count;
    }
    const rgb = new Uint8Array(buffer, at, 3 * (places ? count : pixels));
    at += rgb.length;
    pictures.push({ places, rgb });
  }
  const side = header.looked_at;
  return { header, pictures, lookedAt: side ? new Uint8Array(buffer, at, side * side) : null };
}
