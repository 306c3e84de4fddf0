// The page: one socket brings the state of the run as text and the film as binary messages.

import { Chart, short } from "./chart.js";
import { Film } from "./film.js";

const NEWEST = "newest";
const RECONNECT_MS = 1000;
const VALUES_SHOWN = 300; // 20 seconds of Atari

const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

const film = new Film($("film"), showThought);
const chart = new Chart($("curve"));
const values = [];
let state = null;
let socket = null;
let paused = still.matches;
let looking = false;
let model = NEWEST;
let axis = "env_steps";
export const shown = { film, version: null }; // for the tests

function connect() {
  if (socket) socket.onclose = socket.onmessage = null;
  socket?.close();
  socket = null;
  film.clear();
  if (document.hidden) return; // nothing is played for nobody
  const asked = new URLSearchParams({ film: paused ? "0" : "1", attention: looking ? "1" : "0", model });
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live?${asked}`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => (typeof data === "string" ? showState(JSON.parse(data)) : film.add(data));
  socket.onclose = () => {
    showStatus("lost", state?.again ? `not connected; again with ${state.again}` : "not connected");
    setTimeout(connect, RECONNECT_MS);
  };
}

function showStatus(kind, words) {
  $("status-dot").dataset.status = kind;
  $("status-text").textContent = words;
}

function showState(now) {
  state = now;
  const row = now.now, name = (now.game ?? "asyncade").replaceAll("_", " ");
  $("game-name").textContent = name[0].toUpperCase() + name.slice(1);
  document.title = `${$("game-name").textContent} · Asyncade`;
  $("about").textContent = [now.mode && `${now.mode} mode`, now.run].filter(Boolean).join(" · ");
  const over = isOver();
  const words = {
    training: "training",
    silent: "no news from the learner",
    ended: { target: "reached its target", signal: "stopped", max_minutes: "ended at its time limit", max_env_steps: "ended at its limit of env steps", diverged: "diverged" }[now.ended_by] ?? "ended",
    stopped: row.seconds === undefined ? "waiting for the learner" : "not running",
    gone: `the folder ${now.run} is gone`,
  };
  showStatus(now.status, withTarget(words[now.status] ?? now.status, now));
  showFigures(row, now.target, over);
  showCurve();
  $("limit").hidden = $("senders").hidden = !now.actors; // an evaluator knows none
  $("bottleneck").textContent = now.bottleneck ? sentence(now.bottleneck.sentence) : over ? "Nothing was measured." : "Nothing measured yet.";
  $("cure").textContent = now.bottleneck && now.status === "training" ? sentence(now.bottleneck.cure) : "";
  showActors(now.actors ?? [], row, now.status === "training");
  const dropped = Object.entries(now.dropped ?? {}).map(([reason, count]) => `${count.toLocaleString("en")} ${reason}`);
  $("dropped").textContent = dropped.length ? `Messages dropped: ${dropped.join(", ")}` : "";
  showCheckpoints();
  showTroubles();
  showNote();
}

function showTroubles() {
  const words = (state.troubles ?? []).map(sentence);
  if ($("troubles").words === words.join()) return; // or it would be read aloud every second
  $("troubles").words = words.join();
  $("troubles").replaceChildren(...words.map((one) => Object.assign(document.createElement("p"), { textContent: one })));
}

function withTarget(words, { reached, status, ended_by }) {
  if (!reached) return words;
  const minutes = reached.seconds === null ? "" : ` (${duration(reached.seconds)})`;
  const when = `reached its target after ${short(reached.env_steps)} env steps${minutes}`;
  return status === "ended" && ended_by === "target" ? when : `${when}; ${words}`;
}

function sentence(words) {
  return `${words[0].toUpperCase()}${words.slice(1).replace(/\.$/, "")}.`;
}

function showFigures(row, target, over) {
  const number = (value, digits) => (value === undefined || value === null ? "–" : value.toFixed(digits).replace("-", "−"));
  $("mean-return").textContent = number(row.mean_return_100, 1);
  $("target").textContent = target === null || target === undefined ? "no target" : `target ${short(target)}`;
  $("env-steps").textContent = row.env_steps === undefined ? "–" : short(row.env_steps);
  $("rate").textContent = row.env_steps_per_second ? `${Math.round(row.env_steps_per_second).toLocaleString("en")} a second${over ? " on average" : ""}` : "";
  $("games").textContent = row.episodes === undefined ? "–" : row.episodes.toLocaleString("en");
  $("minutes").textContent = row.seconds === undefined ? "" : `in ${duration(row.seconds)}`;
  $("lag").textContent = number(row.policy_lag_mean, 1);
  $("lag-of").textContent = over ? "updates, on average" : "updates";
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${(seconds / 60).toFixed(1)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function isOver() {
  return ["ended", "stopped", "gone"].includes(state.status);
}

function showCurve() {
  const { env_steps, seconds, mean_return_100 } = state.curve;
  $("learning-title").textContent = state.curve_of;
  $("axes").hidden = !env_steps;
  const against = env_steps ? axis : "minutes";
  const kept = mean_return_100.map((value, at) => [value, at]).filter(([value]) => value !== null);
  const x = kept.map(([, at]) => (against === "minutes" ? seconds[at] / 60 : env_steps[at]));
  const y = kept.map(([value]) => value);
  const played = state.checkpoints.find((one) => one.name === model);
  const mark = played ? (against === "minutes" ? played.seconds / 60 : played.env_steps) : null;
  chart.show({ x, y, target: state.target ?? null, mark, unit: against === "minutes" ? "minutes" : "env steps", none: isOver() ? "No game has ended" : "The first games have not ended yet" });
  if (y.length) $("curve").setAttribute("aria-label", `${state.curve_of}: ${y.at(-1).toFixed(1)} at the end. Arrow keys read the curve.`);
}

function showActors(actors, row, running) {
  $("actors-title").textContent = running && row.active_actors !== undefined ? `Actors: ${row.active_actors} active` : "Actors";
  $("actors-rows").replaceChildren(
    ...actors.map((actor) => {
      const line = document.createElement("tr");
      line.className = actor.late ? "late" : "";
      const seen = !running ? "–" : actor.silent < 3 ? "now" : `${duration(actor.silent)} ago`;
      const rate = running && actor.silent < 30 && actor.env_steps_per_second !== null ? Math.round(actor.env_steps_per_second).toLocaleString("en") : "–";
      for (const words of [actor.late ? `${actor.id} (late)` : actor.id, rate, actor.policy_lag ?? "–", seen]) {
        line.appendChild(document.createElement("td")).textContent = words;
      }
      return line;
    }),
  );
}

function showCheckpoints() {
  const live = state.status === "training" || state.status === "silent";
  const names = state.checkpoints.map((one) => one.name);
  const stops = live ? [...names, NEWEST] : names;
  $("age").hidden = stops.length < 2;
  const slider = $("checkpoint");
  if (model !== NEWEST && !stops.includes(model)) choose(NEWEST); // it was removed
  const at = model === NEWEST ? stops.length - 1 : stops.indexOf(model);
  slider.max = stops.length - 1;
  slider.value = at;
  slider.stops = stops;
  showAge(at, stops, live);
}

function showAge(at, stops, live) {
  const steps = state.checkpoints[at]?.env_steps;
  const words = live && at === stops.length - 1 ? "as it is now" : steps === undefined ? "" : `after ${steps.toLocaleString("en")} env steps`;
  $("checkpoint-name").textContent = words;
  $("checkpoint").setAttribute("aria-valuetext", words);
}

function choose(name) {
  if (name === model) return;
  model = name;
  values.length = 0;
  if (state) showCurve();
  connect();
}

function showNote() {
  if (!film.drawn && state?.no_game) $("film-note").textContent = `${state.no_game}.`;
  else if (paused) $("film-note").textContent = film.drawn ? "" : "Paused: press Play to see the game";
  else if (!film.drawn && state?.troubles?.length) $("film-note").textContent = "No game yet";
  else if (!film.drawn) $("film-note").textContent = state?.status === "stopped" && !state.checkpoints.length ? "Nothing has been learned yet" : "The game begins in a moment";
  else $("film-note").textContent = "";
}

function showThought(header, lookedAt) {
  shown.version = header.version;
  if (film.drawn < 2) $("film-note").textContent = "";
  const list = $("actions");
  if (list.actions !== header.actions.join()) {
    list.actions = header.actions.join();
    list.replaceChildren(...header.actions.map(actionRow));
  }
  header.probabilities.forEach((share, at) => {
    const row = list.children[at];
    row.classList.toggle("taken", at === header.action);
    row.querySelector("i").style.transform = `scaleX(${share})`;
    row.lastChild.textContent = `${Math.round(100 * share)}%`;
  });
  $("score").textContent = `${header.score}`.replace("-", "−");
  $("value").textContent = header.value.toFixed(2).replace("-", "−");
  values.push(header.value);
  if (values.length > VALUES_SHOWN) values.shift();
  drawValues();
  drawAttention(lookedAt);
}

function actionRow(name) {
  const row = document.createElement("li");
  row.appendChild(document.createElement("span")).textContent = name;
  row.appendChild(document.createElement("span")).className = "bar";
  row.lastChild.appendChild(document.createElement("i"));
  row.appendChild(document.createElement("span")).className = "share";
  return row;
}

function drawValues() {
  const canvas = $("value-line"), context = canvas.getContext("2d");
  const sharp = devicePixelRatio, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * sharp) || canvas.height !== Math.round(height * sharp)) {
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
  }
  context.setTransform(sharp, 0, 0, sharp, 0, 0);
  const low = Math.min(0, ...values), high = Math.max(0, ...values), span = Math.max(high - low, 1);
  const y = (value) => height - 4 - ((value - low) / span) * (height - 8);
  const style = getComputedStyle(document.documentElement);
  context.clearRect(0, 0, width, height);
  context.fillStyle = style.getPropertyValue("--line");
  context.fillRect(0, Math.round(y(0)), width, 1);
  context.strokeStyle = style.getPropertyValue("--accent");
  context.lineWidth = 1.5;
  context.beginPath();
  values.forEach((value, at) => context.lineTo(width - ((values.length - 1 - at) / VALUES_SHOWN) * width, y(value)));
  context.stroke();
}

function drawAttention(lookedAt) {
  const canvas = $("attention");
  canvas.hidden = !looking || !lookedAt;
  if (canvas.hidden) return;
  const side = Math.sqrt(lookedAt.length), context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  lookedAt.forEach((strength, at) => image.data.set([255, 196, 64, strength], 4 * at));
  context.putImageData(image, 0, 0);
}

function setPaused(value) {
  paused = value;
  $("pause").textContent = paused ? "Play" : "Pause";
  $("pause").setAttribute("aria-pressed", paused);
  showNote();
}

$("pause").addEventListener("click", () => {
  setPaused(!paused);
  connect();
});
$("look").addEventListener("click", () => {
  looking = !looking;
  $("look").setAttribute("aria-pressed", looking);
  drawAttention(null);
  connect();
});
$("checkpoint").addEventListener("input", ({ target }) => {
  const live = target.stops.at(-1) === NEWEST;
  showAge(+target.value, target.stops, live);
});
$("checkpoint").addEventListener("change", ({ target }) => {
  const last = +target.value === target.stops.length - 1;
  choose(last ? NEWEST : target.stops[+target.value]);
});
document.querySelectorAll("[name=axis]").forEach((choice) =>
  choice.addEventListener("change", () => {
    axis = choice.value;
    if (state) showCurve();
  }),
);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("button, input")) return;
  if (event.key === " ") $("pause").click();
  else if (event.key.toLowerCase() === "l") $("look").click();
  else return;
  event.preventDefault();
});
document.addEventListener("visibilitychange", connect);
still.addEventListener("change", () => {
  setPaused(still.matches);
  connect();
});
setPaused(paused);
connect();
