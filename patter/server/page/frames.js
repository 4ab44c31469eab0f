/** When things are drawn: at most once a frame, and as seldom as each drawing wants. A hidden page draws nothing. */

const waiting = new Map();
let asked = 0;

/** Draw in the next frame, however often it is asked for until then. `gap` ms lie between two drawings at least. */
export function soon(draw, gap = 0) {
  if (!waiting.has(draw)) waiting.set(draw, gap);
  if (!asked) asked = requestAnimationFrame(run);
}

/** Let a drawing that waits go: its view is gone. */
export function forget(draw) {
  waiting.delete(draw);
  drawn.delete(draw);
}

const drawn = new WeakMap();

function run(now) {
  asked = 0;
  for (const [draw, gap] of [...waiting]) {
    if (gap && now - (drawn.get(draw) ?? -gap) < gap) continue;
    waiting.delete(draw);
    drawn.set(draw, now);
    draw();
  }
  if (waiting.size && !asked) asked = requestAnimationFrame(run);
}
