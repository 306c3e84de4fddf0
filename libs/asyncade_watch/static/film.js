// The film: decodes the messages of asyncade_watch.frames and draws them at the game's own speed.

const WHOLE = 0xffffffff;
const MOST_SECONDS_QUEUED = 0.6; // further behind, what was missed is skipped
const AHEAD_SECONDS = 0.12; // before the first screen: the network and the scheduler are uneven

export class Film {
  // onStep: called with the header and what is looked at, when the first screen of a step is drawn.
  constructor(canvas, onStep) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.onStep = onStep;
    this.queue = []; // screens to draw, each with how it is made from the one before
    this.palette = new Uint32Array(256);
    this.colours = null;
    this.fps = 60;
    this.drawn = 0;
    this.next = null; // when the next screen is due, in milliseconds
    this.request = null;
  }

  clear() {
    this.queue = [];
    this.next = null;
    if (this.request !== null) cancelAnimationFrame(this.request);
    this.request = null;
  }

  add(buffer) {
    const { header, screens, lookedAt } = decode(buffer);
    this.fps = header.fps;
    screens.forEach((screen, at) => {
      this.queue.push({ screen, size: header.size, step: at ? null : { header, lookedAt } });
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

  apply({ screen, size, step }) {
    const [height, width] = size;
    if (this.canvas.width !== width || this.canvas.height !== height || !this.image) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.indices = new Uint8Array(width * height);
      this.canvas.parentElement.toggleAttribute("data-square", width === height);
    }
    if (step) {
      if (step.header.palette) this.learn(step.header.palette);
      this.onStep(step.header, step.lookedAt);
    }
    if (screen.whole) {
      this.indices.set(screen.whole);
      for (let at = 0; at < screen.whole.length; at++) this.pixels[at] = this.palette[screen.whole[at]];
    } else {
      const { places, colours } = screen;
      for (let at = 0; at < places.length; at++) {
        this.indices[places[at]] = colours[at];
        this.pixels[places[at]] = this.palette[colours[at]];
      }
    }
  }

  learn(hex) {
    for (let at = 0; at < 256; at++) {
      const rgb = parseInt(hex.slice(6 * at, 6 * at + 6), 16);
      this.palette[at] = 0xff000000 | ((rgb & 255) << 16) | (rgb & 0xff00) | (rgb >> 16);
    }
    this.indices.forEach((colour, at) => (this.pixels[at] = this.palette[colour]));
  }
}

function decode(buffer) {
  const view = new DataView(buffer);
  let at = 4 + view.getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, at - 4)));
  const pixels = header.size[0] * header.size[1];
  const screens = [];
  for (let number = 0; number < header.screens; number++) {
    const count = view.getUint32(at, true);
    at += 4;
    if (count === WHOLE) {
      screens.push({ whole: new Uint8Array(buffer, at, pixels) });
      at += pixels;
    } else {
      const places = new Uint16Array(buffer.slice(at, at + 2 * count)); // slice: it is not aligned
      screens.push({ places, colours: new Uint8Array(buffer, at + 2 * count, count) });
      at += 3 * count;
    }
  }
  const side = header.looked_at;
  return { header, screens, lookedAt: side ? new Uint8Array(buffer, at, side * side) : null };
}
