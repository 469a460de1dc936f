/**
 * The phone page from a link to a proven PIN (docs/spec/phone.md): bytes, CPace, the mailbox, the pages.
 *
 * It is one file because the page may cost three requests before the handshake: index.html, page.css, this.
 * What follows the PIN (the question, the answer, the receipt) is answer.js, which loads beside the handshake.
 * Nothing is stored: a secret lives in the variables of this page and ends with it.
 *
 * @typedef {Uint8Array<ArrayBuffer>} Bytes
 * @typedef {Record<string, string | (() => string) | undefined>} Values  what a page's words name
 */

/** Languages by code, each in its own name. English is index.html; any other is `{code}.js` beside this file. */
const LANGUAGES = [
  ['en', 'English'],
  ['es', 'Español'],
];

// Bytes

const text = new TextEncoder();
/** @param {string} s @returns {Bytes} */
export const utf8 = (s) => /** @type {Bytes} */ (text.encode(s));

/** @param {...(Bytes | string)} parts @returns {Bytes} one after the other; text as UTF-8 */
export function cat(...parts) {
  const all = parts.map((part) => (typeof part === 'string' ? utf8(part) : part));
  const out = new Uint8Array(all.reduce((n, part) => n + part.length, 0));
  all.reduce((at, part) => (out.set(part, at), at + part.length), 0);
  return out;
}

/** @param {Bytes} data @returns {string} base64url without padding */
export const b64 = (data) =>
  btoa(String.fromCharCode(...data)).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');

/**
 * The bytes of a canonical base64url text: one that would not come out again as it went in is refused.
 * @param {unknown} s
 * @param {number} [size]
 */
export function unb64(s, size) {
  if (typeof s !== 'string' || /[^\w-]/.test(s)) throw new Untrusted();
  let data;
  try {
    data = Uint8Array.from(atob(s.replace(/-/g, '+').replace(/_/g, '/')), (c) => c.charCodeAt(0));
  } catch {
    throw new Untrusted();
  }
  if (b64(data) !== s || (size !== undefined && data.length !== size)) throw new Untrusted();
  return data;
}

/** @param {Bytes} data */
export const hex = (data) => Array.from(data, (x) => x.toString(16).padStart(2, '0')).join('');

/** Equality without an early way out. @param {Bytes} a @param {Bytes} b */
export const same = (a, b) => a.length === b.length && a.reduce((x, byte, i) => x | (byte ^ b[i]), 0) === 0;

/** The bytes behind their LEB128 length. @param {Bytes} data */
function lv(data) {
  const head = [];
  let n = data.length;
  for (; n > 127; n >>>= 7) head.push((n & 127) | 128);
  return cat(new Uint8Array([...head, n]), data);
}

/** Something that S would never send: the page stops (protocol s. 3, "cannot be trusted"). */
export class Untrusted extends Error {}

/**
 * An object with exactly these fields, each accepted by its test; unknown and missing ones are refused.
 * @template {Record<string, (x: any) => unknown>} T
 * @param {unknown} value
 * @param {T} fields
 * @returns {{[K in keyof T]: any}}
 */
export function exact(value, fields) {
  const found = /** @type {Record<string, unknown>} */ (value);
  const names = Object.keys(fields);
  if (typeof value !== 'object' || !value || Object.keys(value).length !== names.length) throw new Untrusted();
  for (const name of names) {
    if (!Object.hasOwn(found, name) || !fields[name](found[name])) throw new Untrusted();
  }
  return /** @type {any} */ (value);
}

/** @param {string} json */
export function parse(json) {
  try {
    return JSON.parse(json);
  } catch {
    throw new Untrusted();
  }
}

/** Field tests. */
export const is = {
  v1: (/** @type {unknown} */ x) => x === 1,
  time: (/** @type {number} */ x) => Number.isInteger(x) && x >= 0 && x <= 2 ** 40,
  /** @param {number} max */
  line: (max) => (/** @type {unknown} */ x) => typeof x === 'string' && [...x].length <= max,
  /** @param {number} [size] */
  bytes: (size) => (/** @type {unknown} */ x) => unb64(x, size),
};

// WebCrypto

const subtle = globalThis.crypto?.subtle;
/** @param {'SHA-256' | 'SHA-512'} name @param {Bytes} data */
const hash = async (name, data) => new Uint8Array(await subtle.digest(name, data));
/** @param {Bytes} data */
export const sha256 = (data) => hash('SHA-256', data);

/** @param {'SHA-256' | 'SHA-512'} name @param {Bytes} key @param {Bytes} data */
async function hmac(name, key, data) {
  const k = await subtle.importKey('raw', key, { name: 'HMAC', hash: name }, false, ['sign']);
  return new Uint8Array(await subtle.sign('HMAC', k, data));
}

/** HKDF-SHA256 (RFC 5869). @param {Bytes} ikm @param {Bytes | string} salt @param {string} info */
export async function hkdf(ikm, salt, info, n = 32) {
  const k = await subtle.importKey('raw', ikm, 'HKDF', false, ['deriveBits']);
  const how = { name: 'HKDF', hash: 'SHA-256', salt: cat(salt), info: utf8(info) };
  return new Uint8Array(await subtle.deriveBits(how, k, 8 * n));
}

/**
 * X25519 (RFC 7748 5). Refuses a point that no honest peer sends (top bit set, draft 21 B.1.10) and one whose
 * result would be zero (low order).
 * @param {CryptoKey} scalar
 * @param {Bytes} point
 */
export async function multiply(scalar, point) {
  if (point.length !== 32 || point[31] & 128) throw new Untrusted();
  const there = await subtle.importKey('raw', point, 'X25519', false, []);
  let out;
  try {
    out = new Uint8Array(await subtle.deriveBits({ name: 'X25519', public: there }, scalar, 256));
  } catch {
    throw new Untrusted();
  }
  if (out.every((x) => x === 0)) throw new Untrusted();
  return out;
}

// CPACE-X25519-SHA512 (draft-irtf-cfrg-cpace-21), as the initiator

const P = (1n << 255n) - 19n;
const A = 486662n;
const DSI = utf8('CPace255');
/** @param {bigint} x */
const mod = (x) => ((x % P) + P) % P;

/** @param {bigint} base @param {bigint} e */
function power(base, e) {
  let out = 1n;
  for (let x = mod(base); e > 0n; e >>= 1n, x = (x * x) % P) if (e & 1n) out = (out * x) % P;
  return out;
}

/** Draft A.3, RFC 9380 6.7.1: from 32 bytes to the u-coordinate of a point. @param {Bytes} data */
function elligator2(data) {
  const r = BigInt('0x' + hex(data.slice().reverse())) & ((1n << 255n) - 1n);
  const v = mod(-A * power(1n + 2n * r * r, P - 2n));
  const e = power(v * v * v + A * v * v + v, (P - 1n) / 2n);
  let u = e === P - 1n ? mod(-v - A) : v;
  return Uint8Array.from({ length: 32 }, () => {
    const byte = Number(u & 255n);
    u >>= 8n;
    return byte;
  });
}

/** The point that both sides derive from the password (draft 7.1, 7.2). @param {Bytes} prs @param {Bytes} ci @param {Bytes} sid */
export async function generator(prs, ci, sid) {
  const pad = new Uint8Array(Math.max(0, 127 - lv(prs).length - lv(DSI).length));
  const digest = await hash('SHA-512', cat(lv(DSI), lv(prs), lv(pad), lv(ci), lv(sid)));
  return elligator2(digest.slice(0, 32));
}

/** The session key, 64 bytes (draft 6.2). @param {Bytes} sid @param {Bytes} k @param {[Bytes, Bytes, Bytes, Bytes]} transcript Ya, ADa, Yb, ADb */
export const isk = (sid, k, transcript) =>
  hash('SHA-512', cat(lv(utf8('CPace255_ISK')), lv(sid), lv(k), ...transcript.map(lv)));

/** One side's confirmation of its own message, 64 bytes (draft 10.4). @param {Bytes} sid @param {Bytes} key @param {Bytes} y @param {Bytes} ad */
export async function tag(sid, key, y, ad) {
  return hmac('SHA-512', await hash('SHA-512', cat('CPaceMac', sid, key)), cat(lv(y), lv(ad)));
}

/** The keys of one run, not extractable. */
export async function freshKeys() {
  const x = /** @type {CryptoKeyPair} */ (await subtle.generateKey('X25519', false, ['deriveBits']));
  const ed = /** @type {CryptoKeyPair} */ (await subtle.generateKey('Ed25519', false, ['sign', 'verify']));
  const vP = new Uint8Array(await subtle.exportKey('raw', ed.publicKey));
  return { scalar: x.privateKey, signer: ed.privateKey, vP, nP: crypto.getRandomValues(new Uint8Array(16)) };
}

/**
 * One run of the handshake at the phone (protocol s. 3): m1 and all that the run knows. `point` makes m3 of m2;
 * answer.js takes m4.
 * @typedef {Awaited<ReturnType<typeof startRun>>} Run
 * @typedef {{tid: string, s: string}} Hello  m0
 * @param {Bytes} q empty at the voice door
 * @param {string} code
 * @param {Hello} m0
 */
export async function startRun(q, code, m0, keys = freshKeys()) {
  const { scalar, signer, vP, nP } = await keys;
  const tid = unb64(m0.tid);
  const sid = cat(tid, nP);
  const prs = cat(lv(q), lv(utf8(code)));
  const Ya = await multiply(scalar, await generator(prs, cat('tt1/cpace', unb64(m0.s)), sid));
  const key = q.length && (await hkdf(q, '', 'tt1/gate'));
  const gate = key ? await hmac('SHA-256', key, cat('tt1/m1', tid, nP, Ya, vP)) : q;
  const m1 = { v: 1, nP: b64(nP), Ya: b64(Ya), vP: b64(vP), gate: b64(gate) };
  const later = utf8('');
  return { m0, m1, scalar, signer, vP, nP, sid, Ya, hO: later, key: later, Tb: later };
}

/** m2 in, m3 out. @param {Run} run @param {unknown} body */
export async function point(run, body) {
  const m2 = exact(body, { v: is.v1, Yb: is.bytes(32), hO: is.bytes(32) });
  const Yb = unb64(m2.Yb);
  run.hO = unb64(m2.hO);
  run.key = await isk(run.sid, await multiply(run.scalar, Yb), [run.Ya, run.vP, Yb, run.hO]);
  run.Tb = await tag(run.sid, run.key, Yb, run.hO);
  return { v: 1, Ta: b64(await tag(run.sid, run.key, run.Ya, run.vP)) };
}

/** Whether this browser can do all that is needed; tried, not looked up. */
async function supported() {
  try {
    const keys = await freshKeys();
    const base = new Uint8Array(32);
    base[0] = 9;
    const k = await hkdf(await multiply(keys.scalar, base), '', '');
    await subtle.sign('Ed25519', keys.signer, await hmac('SHA-512', k, k));
    const aes = await subtle.importKey('raw', k, 'AES-GCM', false, ['decrypt']);
    return !!aes && !!Object.hasOwn && !!Intl.NumberFormat;
  } catch {
    return false;
  }
}

// The mailbox at the relay (docs/spec/relay-http.md, "Phones")

const WAIT = 20;
/** Where `m/` is: the origin of the page, unless the page names another in its one `<meta>`. */
const RELAY = document.querySelector('meta[name=tt1-relay]')?.getAttribute('content')?.replace(/\/$/, '') ?? '';
/** Who waits before the next attempt; `wake` ends that. @type {Set<() => void>} */
const sleepers = new Set();
const wake = () => sleepers.forEach((rise) => rise());
/** @param {number} ms @returns {Promise<void>} */
const pause = (ms) =>
  new Promise((done) => {
    const rise = () => (sleepers.delete(rise), done());
    sleepers.add(rise);
    setTimeout(rise, ms);
  });

/**
 * One call, repeated until the relay answers: every call may be. A page that waits for it shows "no network".
 * @param {string} path
 * @param {object} [body]
 * @param {AbortSignal} [stop] ends it with an AbortError
 * @returns {Promise<{status: number, body: any}>}
 */
async function call(path, body, stop) {
  for (let n = 0; ; n++) {
    const ended = new AbortController();
    const end = () => ended.abort();
    const timer = setTimeout(end, (WAIT + 15) * 1000);
    stop?.addEventListener('abort', end);
    let rest = Math.min(8000, 500 * 2 ** n);
    try {
      if (stop?.aborted) throw new DOMException('', 'AbortError');
      const answer = await fetch(RELAY + path, {
        method: body ? 'POST' : 'GET',
        body: body && JSON.stringify(body),
        headers: body && { 'Content-Type': 'application/json' },
        cache: 'no-store',
        credentials: 'omit',
        redirect: 'error',
        referrerPolicy: 'no-referrer',
        signal: ended.signal,
      });
      const json = await answer.text();
      if (![408, 429].includes(answer.status) && answer.status < 500) {
        setOffline(false);
        if (json.length > 16384) throw new Untrusted();
        return { status: answer.status, body: answer.status === 200 ? parse(json) : undefined };
      }
      rest = Math.min(60, Number(answer.headers.get('Retry-After')) || rest / 1000) * 1000;
    } catch (why) {
      if (why instanceof Untrusted || stop?.aborted) throw why;
      if (n || !navigator.onLine) setOffline(true);
    } finally {
      clearTimeout(timer);
      stop?.removeEventListener('abort', end);
    }
    await pause(rest);
  }
}

/** The relay has this mailbox no more: it ended while the person was here. */
export class Gone extends Error {}

/** Seconds for which a phone that shows its code asks for its m0 as often as people wait for it. */
const BRISK = 120;

/** Everything about one code, in memory only. */
export class Visit {
  /**
   * @param {Bytes} q empty at the voice door
   * @param {string} [number] the voice door's
   * @param {boolean} [shown] the staff have yet to scan q
   */
  constructor(q, number = '', shown = false) {
    this.q = q;
    this.number = number;
    this.shown = shown;
    this.unknown = false;
    this.code = '';
    /** @type {Promise<Hello | undefined>} */
    this.hello = this.open();
  }

  /** m0, once; undefined where a page of its own has been shown instead. */
  async open() {
    this.path = `/m/${this.number || hex(await hkdf(this.q, '', 'tt1/mailbox', 16))}`;
    const until = performance.now() + BRISK * 1000;
    let { status, body } = await call(`${this.path}/0`);
    for (let n = 0; status === 404 && (this.shown || (!this.number && n < 2)); n++) {
      // a QR's m0 may still be on its way
      await pause(performance.now() < until ? 1500 : 8000);
      if (visit !== this) return; // another code took its place
      ({ status, body } = await call(`${this.path}/0`));
    }
    this.shown = false;
    if (status !== 200) return void unknown(this);
    if (body && 'ended' in body) return void showEnd(exact(body, { v: is.v1, ended: is.line(16) }).ended);
    try {
      const m0 = exact(body, { v: is.v1, tid: is.bytes(16), s: is.bytes(32), exp: is.time });
      return m0.exp ? m0 : void showEnd('EXPIRED'); // 0: who is inside may answer, nobody else comes in
    } catch {
      return void show('later');
    }
  }

  /** @param {Run} run @param {1 | 3 | 5} slot @param {object} body @param {AbortSignal} [stop] */
  async post(run, slot, body, stop) {
    const { status } = await call(`${this.path}/${hex(run.nP)}/${slot}`, body, stop);
    if (status === 404 || status === 410) throw new Gone();
    if (status !== 200 && status !== 201) throw new Untrusted();
  }

  /**
   * Message number `i` of a slot, or undefined where none came while `left()` said that seconds are left.
   * @param {Run} run @param {2 | 4 | 6} slot @param {number} i @param {() => number} left @param {AbortSignal} [stop]
   */
  async read(run, slot, i, left, stop) {
    for (let wait; (wait = Math.ceil(Math.min(WAIT, left()))) > 0; ) {
      const { status, body } = await call(`${this.path}/${hex(run.nP)}/${slot}?i=${i}&wait=${wait}`, undefined, stop);
      if (status === 200) return body;
      if (status !== 204) throw new Gone();
    }
  }

  /**
   * Posts a message and waits for its answer; both calls leave at once, so that it costs one round trip.
   * @param {Run} run @param {1 | 3} slot @param {object} body @param {number} seconds
   */
  async exchange(run, slot, body, seconds) {
    const stop = new AbortController();
    let until = Infinity;
    const left = () => (until - performance.now()) / 1000;
    const reading = this.read(run, slot === 1 ? 2 : 4, 0, left, stop.signal);
    reading.catch(() => {});
    try {
      await this.post(run, slot, body, stop.signal);
      until = performance.now() + seconds * 1000;
      return await reading;
    } finally {
      stop.abort();
    }
  }

  /**
   * m1 to m4 for the PIN. A run that S does not answer is left for a new one: it cost nothing before m3, and
   * after m3 only one more is begun without the person.
   * @returns {Promise<{run: Run, m4: any} | undefined>} undefined: S does not answer
   */
  async prove() {
    let m0 = await this.hello;
    let proofs = 0;
    for (let n = 0; m0 && n < 10 && proofs < 2; n++) {
      const run = await startRun(this.q, this.code, m0);
      const m2 = await this.exchange(run, 1, run.m1, Math.min(120, WAIT * 2 ** n));
      if (!m2) {
        m0 = await (this.hello = this.open()); // perhaps the code is over
        continue;
      }
      let m3;
      try {
        m3 = await point(run, m2);
      } catch (why) {
        if (n) throw why;
        continue; // a point that cannot be: one more run, then the page stops
      }
      proofs++;
      const m4 = (await this.exchange(run, 3, m3, WAIT)) ?? (await this.exchange(run, 3, m3, WAIT));
      if (m4) return { run, m4 };
    }
  }
}

// Pages and words

/** @type {Record<string, Record<string, string>>} */
const dictionaries = { en: {} };
/** Words of the shown language. */
export let words = dictionaries.en;
/** Code of the shown language. */
export let language = 'en';
let offline = false;
/** The page that is meant, even while "no network" stands over it. @type {{page: string, values: Values}} */
let wanted = { page: 'boot', values: {} };
/** Pages on which a person does nothing but wait for the network. */
const WAITING = ['wait', 'slow', 'sending'];

/** @param {string} selector @param {ParentNode} [root] @returns {any} */
export const find = (selector, root = document) => root.querySelector(selector);
/** @param {string} selector @param {ParentNode} [root] @returns {any[]} */
const all = (selector, root = main) => Array.from(root.querySelectorAll(selector));
/** @param {string} id @returns {DocumentFragment} */
const template = (id) => find(`template#${id}`).content.cloneNode(true);
/** @type {HTMLElement} */
const main = find('main');

/**
 * Shows a page. The heading takes the focus, unless the page came by itself and the person is elsewhere: then
 * the live region says it.
 * @param {string} page
 * @param {Values} [values]
 */
export function show(page, values = {}, quiet = false) {
  wanted = { page, values };
  render(quiet);
}

/** @param {boolean} quiet */
function render(quiet) {
  const page = offline && WAITING.includes(wanted.page) ? 'lost' : wanted.page;
  if (page === document.body.dataset.page) return say();
  const focused = main.contains(document.activeElement);
  main.replaceChildren(template(page));
  for (let part; (part = find('[data-part]', main)); ) {
    part.replaceWith(template(door === 'v' && part.dataset.part === 'pin-form' ? 'voice-form' : part.dataset.part));
  }
  document.body.dataset.page = page;
  say();
  const heading = find('h1', main);
  heading.tabIndex = -1;
  if (!quiet || focused) (find('#number, #code', main) ?? heading).focus({ preventScroll: true });
  if (quiet) announce(heading.textContent);
  scrollTo(0, 0);
}

/** @param {string} sentence */
export function announce(sentence) {
  find('#live').textContent = sentence;
}

/** @param {string} name */
function value(name, values = wanted.values) {
  const found = name === 'offline' ? offline && 'yes' : name === 'anew' ? door !== 's' && 'yes' : values[name];
  return (typeof found === 'function' ? found() : found) || '';
}

/** A sentence of the shown language with what it names. @param {string} key @param {Values} [values] */
export const phrase = (key, values) => words[key].replace(/\{(\w+)\}/g, (_, name) => value(name, values));

/** Puts the words of the shown language, and what they name, into the page; nothing that was typed is lost. */
export function say() {
  document.documentElement.lang = language;
  document.documentElement.dir = words.dir;
  for (const el of all('[data-if]')) el.hidden = !value(el.dataset.if);
  for (const el of all('[data-t]', document)) {
    const pieces = words[el.dataset.t].split(/\{(\w+)\}/);
    el.replaceChildren(...pieces.map((piece, i) => (i % 2 ? isolated(value(piece)) : piece)));
  }
  for (const el of all('[data-v]')) el.replaceChildren(isolated(value(el.dataset.v)));
  for (const el of all('a.tel')) el.href = 'tel:' + value('tel');
  document.title = `${find('h1').textContent} · ${words.brand}`;
}

/** What has no shape of its own and could make a name read as another one (transfer/text.py). */
export const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\p{DI}\ufff0-\ufffb]/gu;

/** A value, kept from turning the direction of the sentence around it. @param {string} s */
function isolated(s) {
  const el = document.createElement('bdi');
  el.textContent = s.replace(UNSEEN, '');
  return el;
}

/** @param {boolean} now */
function setOffline(now) {
  if (now === offline) return;
  offline = now;
  render(false);
  announce(now ? words.offline : '');
}

/** @param {string} code */
async function speak(code) {
  try {
    dictionaries[code] ??= (await import(`./${code}.js`)).default;
  } catch {
    return; // no network: the language stays
  }
  language = code;
  words = dictionaries[code];
  say();
  const buttons = LANGUAGES.filter(([other]) => other !== code).map(([other, name]) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.lang = other;
    button.textContent = name;
    button.onclick = () => speak(other);
    return button;
  });
  find('#languages').replaceChildren(...buttons);
}

/** Reads the English words out of index.html, where they stand. */
function readEnglish() {
  const roots = [document, ...all('template', document).map((t) => t.content)];
  for (const el of roots.flatMap((root) => all('[data-t]', root))) dictionaries.en[el.dataset.t] = el.textContent;
}

/** A transfer that ended before the person came. @param {string} state as m0 says it: nobody vouches for it */
export function showEnd(state) {
  const over = state === 'EXPIRED';
  if (over && door !== 'v') return show('expired');
  show('ended', { how: () => words[over ? 'voice.over' : `state.${state}`] ?? words['state.other'] });
}

/** Numbers only, in any script's digits, so that a paste with a space or a hyphen works. @param {HTMLInputElement} input */
function digits(input) {
  const clean = input.value.replace(/[٠-٩۰-۹]/g, (c) => String(c.charCodeAt(0) & 15)).replace(/\D/g, '');
  if (clean !== input.value) input.value = clean;
  return clean;
}

/** @param {string} page @param {Values} [values] */
function showPin(page, values) {
  if (door === 'v') return showVoice(page, values);
  const filled = { short: '', ...values };
  show(page, filled);
  /** @type {HTMLInputElement} */
  const input = find('#code');
  input.oninput = () => {
    if (digits(input).length === 6) filled.short = '';
    say();
  };
  find('form').onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    if (input.value.length === 6) return void enter(input.value);
    filled.short = 'yes';
    say();
    input.focus();
  };
}

// The voice door: a number and a code that were read out

/** Damm's check digit (quasigroup of order 10): 0 where the last digit fits. @param {string} code */
const damm = (code) =>
  [...code].reduce(
    (row, digit) =>
      Number(
        '0317598642709215486342068713591750983426612304597836742095815869720134894536201794386172052581436790'[
          row * 10 + Number(digit)
        ]
      ),
    0
  );

/** @param {string} page @param {Values} [values] */
function showVoice(page, values) {
  const filled = { noNumber: '', unknown: '', short: '', typo: '', ...values };
  show(page, filled);
  /** @type {HTMLInputElement[]} */
  const [number, code] = [find('#number'), find('#code')];
  number.value = visit?.number ?? '';
  number.oninput = () => {
    filled.unknown = '';
    if (digits(number).length === 7) {
      filled.noNumber = '';
      dial(number.value);
    }
    say();
  };
  code.oninput = () => {
    filled.typo = '';
    if (digits(code).length === 9) filled.short = '';
    say();
  };
  find('form').onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    filled.noNumber = number.value.length === 7 ? '' : 'yes';
    filled.short = code.value.length === 9 ? '' : 'yes';
    filled.typo = !filled.short && damm(code.value) ? 'yes' : '';
    say();
    if (filled.noNumber) return number.focus();
    if (filled.short || filled.typo) return code.focus();
    dial(number.value);
    void enter(code.value.slice(0, 8));
  };
}

/** m0 of a number, while its code is still being typed. @param {string} number */
function dial(number) {
  if (visit?.number === number && !visit.unknown) return;
  visit = new Visit(utf8(''), number);
  visit.hello.catch((why) => fail(why, true));
}

/** @param {Visit} of whose mailbox the relay does not have */
function unknown(of) {
  of.unknown = true;
  if (door !== 'v') return show('unknown');
  if (of === visit) showVoice('voice', { unknown: 'yes' });
}

// The staff scan: this phone makes q and shows it

/**
 * The dark modules of a QR code (ISO/IEC 18004, version 3-M: 29 modules, one block of 44 and 26 bytes) as an SVG path.
 * The mask is always 0: what is shown is random, and readers take any.
 * @param {string} line 28 characters of ASCII
 */
export function square(line) {
  const bits = (/** @type {number} */ byte) => byte.toString(2).padStart(8, '0');
  const data = `0100${[line.length, ...utf8(line)].map(bits).join('')}0000`.match(/.{8}/g)?.map((b) => parseInt(b, 2)) ?? [];
  while (data.length < 44) data.push(236, 17);
  /** @type {number[]} */
  const power = [];
  for (let i = 0, x = 1; i < 255; i++, x = (x << 1) ^ (x > 127 ? 285 : 0)) power.push(x);
  const times = (/** @type {number} */ a, /** @type {number} */ b) =>
    a && b && power[(power.indexOf(a) + power.indexOf(b)) % 255];
  let divisor = [1];
  for (let i = 0; i < 26; i++) {
    divisor = [...divisor, 0].map((c, j) => c ^ (j && times(divisor[j - 1], power[i])));
  }
  const rest = [...data, ...Array(26).fill(0)];
  data.forEach((_, i) => {
    const lead = rest[i];
    divisor.forEach((c, j) => (rest[i + j] ^= times(c, lead)));
  });
  const stream = [...data, ...rest.slice(44)].map(bits).join('');
  let path = '';
  let next = 0;
  for (let right = 28; right > 0; right -= right === 8 ? 3 : 2) {
    for (let step = 0; step < 58; step++) {
      const x = right - (step & 1);
      const y = (right + 1) & 2 ? step >> 1 : 28 - (step >> 1);
      if (fixed(y, x) ?? (stream[next++] === '1') !== ((x + y) % 2 === 0)) path += `M${x} ${y}h1v1h-1z`;
    }
  }
  for (let y = 0; y < 29; y++) if (fixed(y, 6)) path += `M6 ${y}h1v1h-1z`;
  return path;
}

/** A module that every such code has: whether it is dark; undefined where data lies. @param {number} y @param {number} x */
function fixed(y, x) {
  const from = (/** @type {number} */ cy, /** @type {number} */ cx) => Math.max(Math.abs(y - cy), Math.abs(x - cx));
  for (const [cy, cx] of [[3, 3], [3, 25], [25, 3]]) {
    if (from(cy, cx) < 5) return from(cy, cx) !== 2 && from(cy, cx) !== 4;
  }
  if (from(22, 22) < 3) return from(22, 22) !== 1;
  if (y === 6 || x === 6) return (x + y) % 2 === 0;
  if (x === 8 && y === 21) return true;
  const format = '010010000010101'; // level M, mask 0, lowest bit first
  if (x === 8 && (y < 9 || y > 21)) return format[y > 21 ? y - 14 : y > 6 ? y - 1 : y] === '1';
  if (y === 8 && (x < 8 || x > 20)) return format[x > 20 ? 28 - x : x === 7 ? 8 : 14 - x] === '1';
}

function showCode() {
  const q = crypto.getRandomValues(new Uint8Array(16));
  const mine = (visit = new Visit(q, '', true));
  /** @type {Values} */
  const filled = { late: '', host: location.host + location.pathname };
  if (document.body.dataset.page === 'show') announce(phrase('show.new'));
  show('show', filled);
  find('.dark').setAttribute('d', square(`tt1:1.${b64(q)}`));
  setTimeout(() => {
    filled.late = 'yes';
    say();
  }, 60000);
  mine.hello.then((m0) => m0 && visit === mine && showPin('pin')).catch((why) => fail(why, true));
}

// The way through

/** The last part of the address: s, v or p. */
const door = location.pathname.split('/').pop() ?? '';
/** @type {Visit} */
let visit;

/** @param {string} code */
async function enter(code) {
  visit.code = code;
  show('wait');
  const patience = setTimeout(() => wanted.page === 'wait' && show('slow', {}, true), 6000);
  const rest = import('./answer.js');
  rest.catch(() => {});
  try {
    const proven = await visit.prove();
    if (!proven) return wanted.page === 'wait' || wanted.page === 'slow' ? show('stuck') : undefined;
    const { run, m4 } = proven;
    if (m4 && 'error' in m4) return refused(m4);
    await (await rest.catch(() => load('./answer.js'))).ask(visit, run, m4);
  } catch (why) {
    await fail(why, true);
  } finally {
    clearTimeout(patience);
  }
}

/** A module that did not come: again, until the network is back. @param {string} path */
async function load(path) {
  for (let n = 1; ; n++) {
    try {
      return await import(`${path}?${n}`); // a browser may keep a failed import under its address
    } catch {
      setOffline(true);
      await pause(Math.min(8000, 500 * 2 ** n));
    }
  }
}

/** Instead of m4. @param {unknown} body */
function refused(body) {
  const { error, left } = exact(body, {
    v: is.v1,
    error: (x) => x === 'wrong' || x === 'locked',
    left: (x) => Number.isInteger(x) && x >= 0 && x <= 100,
  });
  if (error === 'locked' || !left) return show('locked');
  showPin('wrong', { left: String(left), many: left > 1 ? 'yes' : '', last: left === 1 ? 'yes' : '' });
}

/** @param {unknown} why @param {boolean} before nothing had been sent yet */
export async function fail(why, before) {
  if (why instanceof Gone) {
    const m0 = await (visit.hello = visit.open()).catch(() => 'bad');
    if (m0 !== 'bad') return m0 && show('unknown');
  }
  show('untrusted', { before: before ? 'yes' : '' });
}

/** What the buttons do that belong to no form; answer.js adds its own. @type {Record<string, () => void>} */
export const actions = {
  retry: () => wake(),
  again: () => void enter(visit.code),
  anew: () => (door === 'v' ? showVoice('voice', {}) : showCode()),
};

async function begin() {
  const fragment = location.hash.slice(1);
  if (location.href.includes('#')) history.replaceState(null, '', location.pathname);
  readEnglish();
  const wish = navigator.languages.map((l) => l.slice(0, 2)).find((l) => LANGUAGES.some(([code]) => code === l));
  const speaking = speak(wish ?? 'en');
  if (!globalThis.isSecureContext) return show('unsafe');
  if (!(await supported())) return show('old');
  if (door === 'v' || door === 'p') {
    await inWords(speaking);
    return actions.anew();
  }
  if (!fragment) return show('again');
  if (!/^1\.[\w-]{22}$/.test(fragment)) return show('foreign');
  try {
    visit = new Visit(unb64(fragment.slice(2), 16));
  } catch {
    return show('foreign');
  }
  visit.hello.catch((why) => fail(why, true));
  await inWords(speaking);
  if (wanted.page === 'boot') showPin('pin');
}

/** Where the network is quick, a moment for the words, so that no page changes its language under the eyes. @param {Promise<void>} speaking */
async function inWords(speaking) {
  if (performance.now() < 1000) await Promise.race([speaking, pause(300)]);
}

main.addEventListener('click', (event) => {
  const name = /** @type {HTMLElement} */ (event.target).closest('[data-do]')?.getAttribute('data-do');
  if (name) actions[name]?.();
});
addEventListener('offline', () => setOffline(true));
addEventListener('online', () => {
  setOffline(false);
  wake();
});
document.addEventListener('visibilitychange', () => wake());
// Another code scanned into this tab changes the fragment only: begin anew with it
addEventListener('hashchange', () => location.reload());
void begin();
