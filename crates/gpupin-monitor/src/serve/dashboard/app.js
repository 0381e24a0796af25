// The dashboard. Everything comes from the service that this page came from.
//
// A moment is kept for ten minutes; what is older the service is asked for. What is unknown is no point in a line, and a line has a gap where no
// moment was.

const KEPT = 10 * 60 * 1000;
const LEAST = 60 * 1000;
const MISSING = 3;
const WIDTH = 300;
const HEIGHT = 60;
const POINTS = 300;

/** Milliseconds that are shown, and after how many it is asked again. */
const RANGES = {
  hour: { span: 3600e3, again: 15e3 },
  day: { span: 24 * 3600e3, again: 60e3 },
  week: { span: 7 * 24 * 3600e3, again: 300e3 },
  month: { span: 30 * 24 * 3600e3, again: 900e3 },
};

const TEXTS = {
  en: {
    skip: "Skip to the GPUs",
    language: "Language",
    gpus: "GPUs",
    processes: "Processes",
    leases: "Leases",
    queue: "Who holds and who waits",
    metrics: "Metrics",
    shown: "Shown: the last 10 minutes, as far as this page has been open",
    past: (span) => `Shown: ${span}, as far as the history has it`,
    asking: "The history is being asked.",
    noPast: (why) => `The history says nothing: ${why}`,
    range: "Time shown",
    live10: "10 min",
    hour: "1 h",
    day: "24 h",
    week: "7 d",
    month: "30 d",
    alerts: "Alerts",
    noAlerts: "Nothing to look at.",
    alertsUnknown: "The machine is silent: nobody knows what else there is.",
    kinds: {
      silent: "Silent machine", unreadable: "Unreadable GPU", xid: "Error of the driver (Xid)", heat: "Heat", slowdown: "Slowed down",
      "memory-errors": "Memory errors", "wrong-gpu": "Wrong GPU", "without-lease": "Without a lease", unowned: "Memory of nobody", "idle-holder": "Idle holder",
    },
    alertSince: (time) => `since ${time}`,
    wait: "waiting for the machine",
    live: "live",
    gap: "the machine does not answer",
    away: "the service does not answer",
    simulated: (source) => `Simulated: no GPU was measured. ${source} says all of this.`,
    other: (kind) => `These figures are not measured: ${kind}.`,
    lost: (count) => `${count} moments did not reach this page: it was too slow.`,
    driver: (version) => `driver ${version}`,
    memory: "Memory",
    busy: "Busy",
    heat: "Temperature",
    power: "Power",
    of: (used, all) => `${used} of ${all}`,
    unknown: "unknown",
    lacks: "not available",
    meant: "the policy's GPU",
    forbidden: "forbidden by the policy",
    slows: "slowed down or too hot",
    unreadable: "does not say what it is",
    chart: (name, now, low, high) => `${name}: now ${now}; between ${low} and ${high} in the time shown`,
    empty: (name) => `${name}: nothing known in the time shown`,
    noGpus: "No GPU.",
    nothingKnown: "Nothing is known now.",
    noProcesses: "No process uses a GPU.",
    unlisted: "Processes that the driver did not list are missing here.",
    noLeases: "Nobody holds or awaits a GPU.",
    unreadLeases: "Leases could not be read.",
    noProject: "No project known",
    project: (path) => `Project ${path}`,
    gpu: "GPU",
    command: "Command",
    user: "User",
    place: "Place",
    lease: "Lease",
    right: "right",
    wrong: "wrong GPU",
    unmanaged: "unmanaged",
    leased: "yes",
    unleased: "no",
    who: "Who",
    since: "Since",
    role: "State",
    holds: "holds",
    waits: (place) => `waits, place ${place}`,
    stranger: "of another container",
  },
  fr: {
    skip: "Aller aux GPU",
    language: "Langue",
    gpus: "GPU",
    processes: "Processus",
    leases: "Réservations",
    queue: "Qui détient et qui attend",
    metrics: "Métriques",
    shown: "Affiché : les 10 dernières minutes, depuis l’ouverture de cette page",
    past: (span) => `Affiché : ${span}, pour autant que l’historique le sache`,
    asking: "L’historique est interrogé.",
    noPast: (why) => `L’historique ne dit rien : ${why}`,
    range: "Période affichée",
    live10: "10 min",
    hour: "1 h",
    day: "24 h",
    week: "7 j",
    month: "30 j",
    alerts: "Alertes",
    noAlerts: "Rien à examiner.",
    alertsUnknown: "La machine est muette : personne ne sait s’il y a autre chose.",
    kinds: {
      silent: "Machine muette", unreadable: "GPU illisible", xid: "Erreur du pilote (Xid)", heat: "Chaleur", slowdown: "Ralenti",
      "memory-errors": "Erreurs de mémoire", "wrong-gpu": "Mauvais GPU", "without-lease": "Sans réservation", unowned: "Mémoire de personne", "idle-holder": "Détenteur inactif",
    },
    alertSince: (time) => `depuis ${time}`,
    wait: "en attente de la machine",
    live: "en direct",
    gap: "la machine ne répond pas",
    away: "le service ne répond pas",
    simulated: (source) => `Simulé : aucun GPU n’a été mesuré. Tout vient de : ${source}.`,
    other: (kind) => `Ces valeurs ne sont pas mesurées : ${kind}.`,
    lost: (count) => `${count} instants n’ont pas atteint cette page : elle était trop lente.`,
    driver: (version) => `pilote ${version}`,
    memory: "Mémoire",
    busy: "Occupation",
    heat: "Température",
    power: "Puissance",
    of: (used, all) => `${used} sur ${all}`,
    unknown: "inconnu",
    lacks: "non disponible",
    meant: "le GPU de la politique",
    forbidden: "interdit par la politique",
    slows: "ralenti ou trop chaud",
    unreadable: "ne dit pas ce qu’il est",
    chart: (name, now, low, high) => `${name} : actuellement ${now} ; entre ${low} et ${high} sur la période affichée`,
    empty: (name) => `${name} : rien de connu sur la période affichée`,
    noGpus: "Aucun GPU.",
    nothingKnown: "Rien n’est connu en ce moment.",
    noProcesses: "Aucun processus n’utilise de GPU.",
    unlisted: "Les processus que le pilote n’a pas énumérés manquent ici.",
    noLeases: "Personne ne réserve ni n’attend de GPU.",
    unreadLeases: "Les réservations n’ont pas pu être lues.",
    noProject: "Aucun projet connu",
    project: (path) => `Projet ${path}`,
    gpu: "GPU",
    command: "Commande",
    user: "Utilisateur",
    place: "Placement",
    lease: "Réservation",
    right: "correct",
    wrong: "mauvais GPU",
    unmanaged: "non géré",
    leased: "oui",
    unleased: "non",
    who: "Qui",
    since: "Depuis",
    role: "État",
    holds: "détient",
    waits: (place) => `attend, rang ${place}`,
    stranger: "d’un autre conteneur",
  },
};

const SYMBOLS = { right: "✓", wrong: "✗", unmanaged: "○" };

/** What is drawn of a GPU. `most` is what the line is compared with, where that is known. */
const SERIES = [
  { name: "memory", metric: "memory-used", field: "memory_used", of: (gpu) => gpu.memory_used, most: (gpu) => gpu.vram, text: bytes },
  { name: "busy", metric: "utilization", field: "utilization", of: (gpu) => gpu.utilization, most: () => 100, text: (it) => `${number(it)} %` },
  { name: "heat", metric: "temperature", field: "temperature", of: (gpu) => gpu.temperature, most: (gpu) => gpu.shutdown_temperature ?? 100, text: (it) => `${number(it)} °C` },
  { name: "power", metric: "power", field: "power", of: (gpu) => gpu.power, most: (gpu) => gpu.power_limit, text: (it) => `${number(it / 1000)} W` },
];

const state = { language: "en", state: "wait", lost: 0, moments: [], step: 1000, gpus: new Map(), alerts: [], range: "live", past: null };
let words = TEXTS.en;

function number(value, digits = 0) {
  return new Intl.NumberFormat(state.language, { maximumFractionDigits: digits }).format(value);
}

function bytes(value) {
  const gib = value / 2 ** 30;
  return gib >= 1 || value === 0 ? `${number(gib, 1)} GiB` : `${number(value / 2 ** 20)} MiB`;
}

function time(milliseconds) {
  return new Intl.DateTimeFormat(state.language, { timeStyle: "medium" }).format(new Date(milliseconds));
}

/** An element with these attributes and children. Text is never read as HTML. */
function element(name, attributes = {}, ...children) {
  const it = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) it.setAttribute(key, value);
  }
  it.append(...children.filter((child) => child !== null));
  return it;
}

function get(id) {
  return document.getElementById(id);
}

/** Changes a text only if it is another one, so that nobody is told twice. */
function say(it, text) {
  if (it.textContent !== text) it.textContent = text;
}

/** Gives an element these children, and changes only what differs: who reads, selects or has the focus there should not be disturbed. */
function fill(it, ...children) {
  patch(it, element("div", {}, ...children));
}

function patch(it, wanted) {
  // Who moves leaves the list.
  const children = [...wanted.childNodes];
  children.forEach((next, at) => {
    const now = it.childNodes[at];
    if (now === undefined) it.append(next);
    else if (now.nodeName !== next.nodeName) now.replaceWith(next);
    else if (now.nodeType === Node.TEXT_NODE) {
      if (now.data !== next.data) now.data = next.data;
    } else {
      for (const { name } of [...now.attributes]) {
        if (!next.hasAttribute(name)) now.removeAttribute(name);
      }
      for (const { name, value } of next.attributes) {
        if (now.getAttribute(name) !== value) now.setAttribute(name, value);
      }
      patch(now, next);
    }
  });
  while (it.childNodes.length > children.length) it.lastChild.remove();
}

// Charts

/** The path of a line through what is known; it is interrupted where nothing is. */
function path(points, most, { now, span, step }) {
  const high = Math.max(most ?? 0, ...points.map((it) => it.value ?? 0)) || 1;
  let text = "";
  let last = null;
  for (const { at, value, isEnd } of points) {
    const isKnown = value !== null && value !== undefined;
    if (isKnown) {
      const x = (WIDTH * (1 - (now - at) / span)).toFixed(1);
      const y = (HEIGHT - 2 - (HEIGHT - 4) * (value / high)).toFixed(1);
      const isNew = last === null || (!isEnd && at - last > MISSING * step);
      // A point with nothing before and after it is a dot.
      text += isNew ? `M${x} ${y}h0` : `L${x} ${y}`;
    }
    last = isKnown ? at : null;
  }
  return text;
}

/** The points of a line, and the time that they are in. */
function line(series, uuid) {
  if (state.range !== "live") {
    const { to, lines } = state.past ?? { to: Date.now(), lines: new Map() };
    const points = lines.get(`${uuid} ${series.name}`) ?? [];
    return { points, now: to, span: RANGES[state.range].span, step: state.step };
  }
  const now = state.moments.at(-1).at;
  const points = state.moments.map((it) => {
    const then = it.gpus.get(uuid);
    return { at: it.at, value: then === undefined ? null : then[series.name] };
  });
  return { points, now, span: Math.max(LEAST, now - points[0].at), step: state.step };
}

/** What is known of a GPU's past, and of now if it answers. */
function drawing(series, card, gpu, answers) {
  const chart = card.querySelector(`[data-series="${series.name}"]`);
  const drawn = line(series, gpu.uuid);
  const value = answers ? series.of(gpu) : null;
  const most = series.most(gpu);
  const lacks = answers && /not supported/i.test(gpu.silent?.[series.field] ?? "");
  let text = lacks ? words.lacks : words.unknown;
  if (value !== null && value !== undefined) {
    text = series.text(value);
    if ((series.name === "memory" || series.name === "power") && most) text = words.of(text, series.text(most));
  }
  const known = drawn.points.flatMap((it) => [it.low ?? it.value, it.high ?? it.value]).filter((it) => it !== null && it !== undefined);
  const name = words[series.name];
  const label = known.length === 0
    ? words.empty(name)
    : words.chart(name, text, series.text(Math.min(...known)), series.text(Math.max(...known)));
  say(chart.querySelector("dt"), name);
  say(chart.querySelector(".now"), text);
  chart.querySelector("svg").setAttribute("aria-label", label);
  chart.querySelector("path").setAttribute("d", path(drawn.points, most, drawn));
}

function svg() {
  const space = "http://www.w3.org/2000/svg";
  const it = document.createElementNS(space, "svg");
  for (const [key, value] of Object.entries({ role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none" })) {
    it.setAttribute(key, value);
  }
  it.append(document.createElementNS(space, "path"));
  return it;
}

// GPUs

function card(uuid) {
  const charts = SERIES.map((it) =>
    element("div", { class: "chart", "data-series": it.name },
      element("dt"), element("dd", {}, element("span", { class: "now" }), svg())));
  return element("article", { class: "card", "data-uuid": uuid },
    element("h3"), element("p", { class: "what" }), element("p", { class: "ill", hidden: "" }),
    element("dl", { class: "charts" }, ...charts));
}

function isIll(gpu) {
  const slowed = ["hw-slowdown", "sw-thermal-slowdown", "hw-thermal-slowdown", "hw-power-brake"];
  const reaches = (limit) => gpu.temperature !== null && limit !== null && gpu.temperature >= limit;
  return reaches(gpu.slowdown_temperature) || reaches(gpu.shutdown_temperature)
    || (gpu.throttle ?? []).some((it) => slowed.includes(it));
}

function title(gpu) {
  const mig = gpu.mig ? ` MIG ${gpu.mig.join("/")}` : "";
  return `${gpu.index}${mig} · ${gpu.name}`;
}

function showGpus(machine) {
  const place = get("gpus");
  if (machine === null) {
    // The lines stay, with their gap; the figures of now go.
    for (const it of place.querySelectorAll("[data-uuid]")) {
      for (const series of SERIES) drawing(series, it, state.gpus.get(it.dataset.uuid), false);
    }
    if (place.childElementCount === 0) fill(place, element("p", { class: "none" }, words.nothingKnown));
    return;
  }
  if (machine.gpus.length + machine.unreadable.length === 0) {
    fill(place, element("p", { class: "none" }, words.noGpus));
    return;
  }
  const cards = machine.gpus.map((gpu) => {
    const it = [...place.children].find((it) => it.dataset.uuid === gpu.uuid) ?? card(gpu.uuid);
    say(it.querySelector("h3"), title(gpu));
    const parts = [gpu.standing ? words[gpu.standing] : null, ...(gpu.roles ?? []), gpu.uuid];
    say(it.querySelector(".what"), parts.filter((part) => part).join(" · "));
    const ill = it.querySelector(".ill");
    ill.hidden = !isIll(gpu);
    say(ill, `▲ ${words.slows}`);
    state.gpus.set(gpu.uuid, gpu);
    for (const series of SERIES) drawing(series, it, gpu, true);
    return it;
  });
  const silent = machine.unreadable.map((gpu) =>
    element("article", { class: "card" },
      element("h3", {}, `${gpu.index} · ${gpu.name ?? words.unknown}`),
      element("p", { class: "ill" }, `✗ ${words.unreadable}`),
      element("p", { class: "what" }, gpu.why)));
  const wanted = [...cards, ...silent];
  const isSame = wanted.length === place.children.length && cards.every((it, at) => place.children[at] === it);
  if (!isSame || silent.length > 0) place.replaceChildren(...wanted);
}

// The past

/** Asks the history for the time shown. What is answered late, and of another time, is dropped. */
async function ask() {
  const { range } = state;
  if (range === "live") return;
  const to = Date.now();
  const from = to - RANGES[range].span;
  const lines = new Map();
  let why = null;
  const get = async (uuid, series) => {
    const query = new URLSearchParams({ gpu: uuid, metric: series.metric, from, to, points: POINTS });
    const answer = await fetch(`/api/v1/history/series?${query}`);
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error);
    // A point is a line from the begin of its time to the end: one that is missing is a gap.
    const points = said.points.flatMap(({ at, span, average, min, max }) => {
      const point = { at, span, value: average, low: min, high: max };
      return span > 1 ? [point, { ...point, at: at + span - 1, isEnd: true }] : [point];
    });
    lines.set(`${uuid} ${series.name}`, points);
  };
  try {
    await Promise.all([...state.gpus.keys()].flatMap((uuid) => SERIES.map((it) => get(uuid, it))));
  } catch (error) {
    why = error.message;
  }
  if (state.range !== range) return;
  state.past = { to, lines, why };
  show();
}

let timer = null;

function choose(range) {
  state.range = range;
  state.past = null;
  clearInterval(timer);
  if (range !== "live") timer = setInterval(ask, RANGES[range].again);
  show();
  ask();
}

function showPast() {
  for (const it of document.querySelectorAll("[data-range]")) {
    it.setAttribute("aria-pressed", String(it.dataset.range === state.range));
  }
  const isLive = state.range === "live";
  say(get("shown"), isLive ? words.shown : words.past(words[state.range]));
  const past = get("past");
  past.hidden = isLive || state.past?.why === null;
  say(past, state.past?.why ? `▲ ${words.noPast(state.past.why)}` : words.asking);
}

// Alerts

function showAlerts(machine) {
  const place = get("alerts");
  if (state.state === "away") {
    fill(place, element("p", { class: "none" }, words.nothingKnown));
    return;
  }
  const none = machine === null ? words.alertsUnknown : words.noAlerts;
  const note = machine !== null && state.alerts.length > 0 ? null : element("p", { class: "none" }, none);
  const alerts = state.alerts.map((it) =>
    element("li", {},
      element("span", { "aria-hidden": "true" }, "▲ "),
      element("span", { class: "kind" }, words.kinds[it.kind] ?? it.kind),
      element("span", { lang: "en" }, ` ${it.text} `),
      element("span", { class: "since" }, words.alertSince(date(it.since)))));
  fill(place, alerts.length > 0 ? element("ul", { class: "alerts", role: "list" }, ...alerts) : null, note);
}

/** A time that may be of another day. */
function date(milliseconds) {
  return new Intl.DateTimeFormat(state.language, { dateStyle: "short", timeStyle: "medium" }).format(new Date(milliseconds));
}

// Tables

/** A table whose cells know their heading, which stands beside them on a narrow screen. */
function table(caption, columns, rows) {
  const head = columns.map((it) => element("th", { scope: "col", class: it.class }, it.text));
  const body = rows.map((row) =>
    element("tr", {}, ...row.map((it, at) =>
      element("td", { class: columns[at].class, "data-label": columns[at].text }, it))));
  const whole = element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body));
  // Who has no mouse scrolls it when it has the focus.
  return element("div", { class: "scroll group", role: "region", tabindex: "0", "aria-label": caption }, whole);
}

function placed(place) {
  const kind = place ?? "unmanaged";
  return element("span", { class: "place", "data-place": kind },
    element("span", { "aria-hidden": "true" }, `${SYMBOLS[kind]} `), words[kind]);
}

function showProcesses(machine) {
  const place = get("processes");
  if (machine === null) {
    fill(place, element("p", { class: "none" }, words.nothingKnown));
    return;
  }
  const groups = new Map();
  for (const gpu of machine.gpus) {
    for (const process of gpu.processes) {
      const key = process.project ?? "";
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push({ gpu, process });
    }
  }
  const lists = ["status", "compute_processes", "graphics_processes", "mps_processes"];
  const isUnlisted = machine.gpus.some((gpu) =>
    lists.some((it) => it in gpu.silent && !/not supported/i.test(gpu.silent[it])));
  const note = isUnlisted ? element("p", { class: "none" }, `▲ ${words.unlisted}`) : null;
  if (groups.size === 0) {
    fill(place, note ?? element("p", { class: "none" }, words.noProcesses));
    return;
  }
  const columns = [
    { text: words.gpu }, { text: "PID", class: "number" }, { text: words.command, class: "command" }, { text: words.user },
    { text: words.memory, class: "number" }, { text: words.busy, class: "number" }, { text: words.place }, { text: words.lease },
  ];
  const or = (value, text) => (value === null || value === undefined ? words.unknown : text(value));
  const row = ({ gpu, process }) => [
    title(gpu),
    String(process.pid),
    process.command ?? (process.stranger ? words.stranger : words.unknown),
    process.user ?? or(process.uid, String),
    or(process.memory, bytes),
    or(process.utilization, (it) => `${number(it)} %`),
    placed(process.place),
    or(process.leased, (it) => (it ? `✓ ${words.leased}` : words.unleased)),
  ];
  // Projects first, what belongs to none last.
  const names = [...groups.keys()].sort((a, b) => (a === "") - (b === "") || a.localeCompare(b));
  const tables = names.map((name) =>
    table(name === "" ? words.noProject : words.project(name), columns, groups.get(name).map(row)));
  fill(place, note, ...tables);
}

function showLeases(moment) {
  const place = get("leases");
  if (moment.leases === null) {
    fill(place, element("p", { class: "none" }, words.unreadLeases));
    return;
  }
  if (moment.leases.length === 0) {
    fill(place, element("p", { class: "none" }, words.noLeases));
    return;
  }
  const gpus = new Map((moment.machine?.gpus ?? []).map((it) => [it.uuid, title(it)]));
  const columns = [{ text: words.gpu }, { text: words.role }, { text: words.who, class: "command" }, { text: "PID", class: "number" }, { text: words.since }];
  const rows = moment.leases.map((it) => {
    const since = it.position === 0 ? it.held : it.came;
    return [
      gpus.get(it.gpu) ?? it.gpu,
      it.position === 0 ? `● ${words.holds}` : `… ${words.waits(it.position)}`,
      it.command ?? words.unknown,
      it.pid === null ? words.unknown : String(it.pid),
      since === null ? words.unknown : time(since),
    ];
  });
  fill(place, table(words.queue, columns, rows));
}

// The whole

function show() {
  document.documentElement.lang = state.language;
  for (const it of document.querySelectorAll("[data-text]")) say(it, words[it.dataset.text]);
  for (const it of document.querySelectorAll("[data-language]")) {
    it.setAttribute("aria-pressed", String(it.dataset.language === state.language));
  }
  const now = get("state");
  now.dataset.state = state.state;
  say(now.querySelector(".text"), words[state.state]);
  // Only what changes is said aloud, never figures.
  say(get("news"), state.lost > 0 ? words.lost(state.lost) : words[state.state]);
  showPast();
  const moment = state.last;
  if (moment === undefined) return;
  const machine = state.state === "away" ? null : moment.machine;
  const gap = get("gap");
  gap.hidden = moment.gap === null && state.state !== "away" && state.lost === 0;
  say(gap, state.state === "away" ? words.away : moment.gap ?? words.lost(state.lost));
  if (moment.machine !== null) {
    const { host, driver, cuda, kind, source } = moment.machine;
    say(get("host"), host);
    document.title = `${host} · gpupin`;
    say(get("about"), [driver && words.driver(driver), cuda && `CUDA ${cuda}`].filter((it) => it).join(" · "));
    const banner = get("simulated");
    banner.hidden = kind === "measured";
    say(banner, kind === "simulated" ? `▲ ${words.simulated(source)}` : `▲ ${words.other(kind)}`);
  }
  showAlerts(machine);
  showGpus(machine);
  showProcesses(machine);
  if (state.state === "away") fill(get("leases"), element("p", { class: "none" }, words.nothingKnown));
  else showLeases(moment);
}

/** What the lines need of a moment. The rest is not kept. */
function kept(moment) {
  const gpus = (moment.machine?.gpus ?? []).map((gpu) =>
    [gpu.uuid, Object.fromEntries(SERIES.map((it) => [it.name, it.of(gpu)]))]);
  return { at: moment.at, gpus: new Map(gpus) };
}

function hear(moment) {
  const last = state.moments.at(-1);
  // Who comes back hears the last one again; a clock that was set back starts anew.
  if (last?.at === moment.at) {
    state.state = moment.machine === null ? "gap" : "live";
    show();
    return;
  }
  if (last !== undefined && moment.at < last.at) state.moments = [];
  state.moments.push(kept(moment));
  while (moment.at - state.moments[0].at > KEPT) state.moments.shift();
  const steps = state.moments.slice(-20).map((it, at, all) => (at === 0 ? Infinity : it.at - all[at - 1].at));
  const step = Math.min(...steps);
  if (Number.isFinite(step)) state.step = Math.max(step, 100);
  state.last = moment;
  state.state = moment.machine === null ? "gap" : "live";
  show();
}

function speak(language) {
  state.language = language in TEXTS ? language : "en";
  words = TEXTS[state.language];
  show();
}

function remembered() {
  try {
    return localStorage.getItem("language");
  } catch {
    return null;
  }
}

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => {
    try {
      localStorage.setItem("language", button.dataset.language);
    } catch {
      // A browser that keeps nothing forgets it.
    }
    speak(button.dataset.language);
  });
}

for (const button of document.querySelectorAll("[data-range]")) {
  button.addEventListener("click", () => choose(button.dataset.range));
}

speak(remembered() ?? (navigator.language.startsWith("fr") ? "fr" : "en"));

const events = new EventSource("/api/v1/stream");
events.addEventListener("moment", (event) => hear(JSON.parse(event.data)));
events.addEventListener("alerts", (event) => {
  state.alerts = JSON.parse(event.data).alerts;
  show();
});
events.addEventListener("lost", (event) => {
  state.lost += JSON.parse(event.data).count;
  show();
});
events.addEventListener("error", () => {
  // The browser comes again by itself, unless the answer was no stream at all.
  state.state = "away";
  show();
});
