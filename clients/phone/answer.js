/**
 * From S's confirmation to the end: what is asked, the yes or no, the receipt (protocol s. 3, m4 to m6).
 *
 * Nothing of m4 is used before Tb held, and nothing is shown before the offer, its hash and the words that it
 * stands for agree. Any doubt ends in the page "Please stop here".
 *
 * @typedef {import('./app.js').Bytes} Bytes
 * @typedef {import('./app.js').Visit} Visit
 * @typedef {import('./app.js').Run} Run
 * @typedef {{d: 'approve' | 'deny' | 'staff', at: number}} Decided
 * @typedef {{state: string, at: number, refused: string, decided: Decided | null, code: string}} Status
 */
import {
  Gone, UNSEEN, Untrusted, actions, announce, b64, cat, exact, fail, find, hkdf, is, language, parse, phrase, same,
  say, sha256, show, unb64, utf8, words,
} from './app.js';

/** Ids of the wordings that this page can show; an offer names the one that the person must have read. */
export const TEXTS = ['2026-1'];
const REASONS = ['transfer', 'consult', 'drill'];
const ENDS = ['COMPLETE', 'PARTIAL', 'DENIED', 'EXPIRED', 'REVOKED', 'DIVERTED', 'DECLINED'];
const DAY = 86400;
/** How many messages slot 6 holds. */
const STATUSES = 32;

/** Boxes of both directions, in order: AES-256-GCM, nonce = a counter for each direction. */
export class Channel {
  /** @param {Bytes} isk @param {Bytes} sid */
  static async derive(isk, sid) {
    return new Channel(await key(isk, sid, 'p2s', 'encrypt'), await key(isk, sid, 's2p', 'decrypt'));
  }

  /** @param {CryptoKey} out @param {CryptoKey} into */
  constructor(out, into) {
    this.out = out;
    this.into = into;
    this.sent = this.received = 0;
  }

  /** @param {string} plain @returns {Promise<string>} base64url */
  async seal(plain) {
    return b64(new Uint8Array(await crypto.subtle.encrypt(gcm('p2s', this.sent++), this.out, utf8(plain))));
  }

  /** @param {string} box @returns {Promise<string>} throws for good after the first box that does not open */
  async open(box) {
    return decodeUtf8(await crypto.subtle.decrypt(gcm('s2p', this.received++), this.into, unb64(box)));
  }
}

/** @param {Bytes} isk @param {Bytes} sid @param {string} way @param {KeyUsage} use */
const key = async (isk, sid, way, use) =>
  crypto.subtle.importKey('raw', await hkdf(isk, sid, `tt1/ch/${way}`), 'AES-GCM', false, [use]);

/** @param {string} way @param {number} n */
function gcm(way, n) {
  const iv = new Uint8Array(12);
  new DataView(iv.buffer).setUint32(8, n);
  return { name: 'AES-GCM', iv, additionalData: utf8(`tt1/ch/${way}`) };
}

/** Four digits that both screens show. @param {Bytes} isk @param {Bytes} sid */
export async function checkCode(isk, sid) {
  const n = new DataView((await hkdf(isk, sid, 'tt1/code', 8)).buffer).getBigUint64(0);
  return String(n % 10000n).padStart(4, '0');
}

const isDecided = (/** @type {any} */ x) =>
  x === null || exact(x, { d: (d) => ['approve', 'deny', 'staff'].includes(d), at: is.time });
const isDeclined = (/** @type {any} */ x) =>
  x === null || exact(x, { at: is.time, by: (by) => by === 'patient' || by === 'proxy' });
/** @param {(x: any) => unknown} each */
const upTo4 = (each) => (/** @type {any} */ x) => Array.isArray(x) && x.length <= 4 && x.every(each);
const isWhy = (/** @type {string} */ x) => REASONS.includes(x);
const isAdd = (/** @type {number} */ x) => Number.isInteger(x) && x >= 0 && x <= 7 * DAY;
const isLine = (/** @type {number} */ max) => (/** @type {string} */ x) => is.line(max)(x) && x !== '';

/** The offer inside its compact text. Its signature is not checked: CPace has named S, and a phone knows no key of a site. */
function readOffer(/** @type {string} */ compact) {
  const [head, payload, signature, more] = compact.split('.');
  const form = b64(utf8('{"alg":"Ed25519","typ":"tt1-offer"}'));
  if (head !== form || more !== undefined || !unb64(signature, 64)) throw new Untrusted();
  const said = parse(decodeUtf8(unb64(payload)));
  const offer = exact(said, {
    v: is.v1, tid: is.bytes(16), cid: is.bytes(16), s: is.bytes(32), r: is.bytes(32), kid: is.bytes(8),
    sum: is.bytes(32), ct: (x) => TEXTS.includes(x), why: isWhy, alt: upTo4(is.bytes(32)), add: isAdd,
    iat: is.time, exp: is.time,
    ...(said?.parent === undefined ? {} : { parent: is.bytes(32), kind: (x) => ['divert', 'add'].includes(x) }),
  });
  if (!(offer.iat < offer.exp && offer.exp <= offer.iat + DAY)) throw new Untrusted();
  return offer;
}

/** @param {BufferSource} data */
const decodeUtf8 = (data) => new TextDecoder('utf-8', { fatal: true }).decode(data);

/**
 * What is in m4's box, checked in the order of the protocol.
 * @param {Run} run
 * @param {string} json
 */
export async function readQuestion(run, json) {
  const question = exact(parse(json), {
    offer: is.line(4096), summary: is.line(2048), salt: is.bytes(16), state: isLine(16), decided: isDecided,
    now: is.time,
  });
  if (!same(await sha256(utf8(question.offer)), run.hO)) throw new Untrusted();
  const offer = readOffer(question.offer);
  if (offer.tid !== run.m0.tid || offer.s !== run.m0.s) throw new Untrusted();
  if (!same(await sha256(cat(unb64(question.salt), question.summary)), unb64(offer.sum))) throw new Untrusted();
  const summary = exact(parse(question.summary), {
    person: is.line(40), from: isLine(120), to: isLine(120), what: isLine(120), why: isWhy, until: is.time,
    alt: upTo4(isLine(120)), add: isAdd, call: is.line(80), declined: isDeclined,
  });
  // What the person reads must be what the offer allows
  const { why, add, alt } = summary;
  if (why !== offer.why || add !== offer.add || alt.length !== offer.alt.length) throw new Untrusted();
  return { offer, summary, state: question.state, decided: question.decided, now: question.now };
}

/** One proven run: what it was asked, what it answered, what became of it. */
class Session {
  /** @param {Visit} visit @param {Run} run @param {Channel} channel @param {Awaited<ReturnType<typeof readQuestion>>} asked */
  constructor(visit, run, channel, asked, check = '') {
    this.visit = visit;
    this.run = run;
    this.channel = channel;
    this.check = check;
    this.offer = asked.offer;
    this.summary = asked.summary;
    this.state = asked.state;
    /** @type {Decided | null} */
    this.decided = asked.decided;
    this.ends = performance.now() + (asked.offer.exp - asked.now) * 1000;
    this.code = '';
    /** The wish that S has not answered yet: '', 'grant' or 'stop'. */
    this.wish = '';
    /** A stop that stopped nothing: '', 'told' (S passes it on) or 'unheard'. */
    this.late = '';
    this.next = 0;
    this.by = 'patient';
    /** The page that stands over the pages of the states: '', 'used' or 'refused'. */
    this.page = '';
    this.following = false;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.ticking = undefined;
    /** @type {{v: number, box: string} | undefined} */
    this.m5 = undefined;
  }

  /** m5 with the grant, signed by the key of this run. @param {'approve' | 'deny'} d @param {string} name @param {string} rel */
  async grant(d, name, rel) {
    const grant = {
      v: 1, tid: this.offer.tid, offer: b64(this.run.hO), d, by: this.by, name, rel, lang: language,
      t: Math.floor(Date.now() / 1000),
    };
    const signed = `${b64(utf8('{"alg":"Ed25519","typ":"tt1-grant"}'))}.${b64(utf8(JSON.stringify(grant)))}`;
    const signature = new Uint8Array(await crypto.subtle.sign('Ed25519', this.run.signer, utf8(signed)));
    return this.send('grant', `${signed}.${b64(signature)}`);
  }

  stop() {
    return this.send('stop', '{"v":1,"stop":true}');
  }

  /**
   * Seals a wish once, posts it, and follows what comes; the same bytes go again until S has answered.
   * @param {'grant' | 'stop'} wish
   * @param {string} plain
   */
  async send(wish, plain) {
    this.wish = wish;
    try {
      this.m5 = { v: 1, box: await this.channel.seal(plain) };
      await this.visit.post(this.run, 5, this.m5);
      setTimeout(() => this.wish === 'grant' && show('sent'), 3000);
      await this.follow();
    } catch (why) {
      const stopping = this.wish === 'stop';
      this.wish = '';
      if (!(why instanceof Gone && this.code)) return fail(why, false);
      if (stopping) this.late ||= 'unheard'; // the mailbox ended before S could hear it
      receipt(this, false);
    }
  }

  /** Reads m6 after m6 until the end, and until every wish is answered. */
  async follow() {
    if (this.following) return;
    this.following = true;
    while (this.next < STATUSES && (this.wish || !ENDS.includes(this.state))) {
      let rounds = 0;
      const again = () => {
        if (this.wish && this.m5 && ++rounds % 3 === 0) this.visit.post(this.run, 5, this.m5).catch(() => {});
        return Infinity;
      };
      const m6 = exact(await this.visit.read(this.run, 6, this.next++, again), { v: is.v1, box: is.bytes() });
      this.take(
        exact(parse(await this.channel.open(m6.box)), {
          v: is.v1, state: isLine(16), at: is.time, refused: is.line(40), decided: isDecided, code: is.line(16),
        })
      );
    }
    this.following = false;
  }

  /** @param {Status} status */
  take({ state, refused, decided, code }) {
    const before = this.wish;
    this.state = state;
    this.decided = decided;
    this.code = code;
    if (before === 'stop' && refused && state !== 'REVOKED') {
      this.late = PASSED_ON.includes(state) ? 'told' : state === 'DIVERTED' ? 'past' : 'unheard';
    }
    if (before === 'grant' || refused || state === 'REVOKED') this.wish = '';
    if (document.body.dataset.page === 'stop') return; // a person is reading: they go back to it
    if (before === 'grant' && refused) refusal(this, refused);
    else receipt(this, before === 'grant');
  }
}

// What the person reads

/** @param {Date} date @param {Intl.DateTimeFormatOptions} how */
const dated = (date, how) => new Intl.DateTimeFormat(language, how).format(date);

/** "14:03", with the day if it is another one. @param {number} at Unix seconds */
function clock(at) {
  const date = new Date(at * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return dated(date, today ? { timeStyle: 'short' } : { dateStyle: 'medium', timeStyle: 'short' });
}

/** "1 hour 58 minutes". @param {number} seconds */
function span(seconds) {
  const minutes = Math.max(1, Math.floor(seconds / 60));
  const unit = (/** @type {number} */ n, /** @type {string} */ u) =>
    new Intl.NumberFormat(language, { style: 'unit', unit: u, unitDisplay: 'long' }).format(n);
  const parts = [unit(Math.floor(minutes / 60), 'hour'), unit(minutes % 60, 'minute')];
  return parts.filter((_, i) => (i ? minutes % 60 : minutes >= 60)).join(' ');
}

/** A term of the sending hospital in the shown language, where its dictionary has it. @param {string} term */
const term = (term) => words.terms.split(';').find((pair) => pair.startsWith(`${term}:`))?.slice(term.length + 1) ?? term;

/** "CT of head, chest, 2026-11-24" in the shown language; any other text as it is. @param {string} what */
function scans(what) {
  const [, kinds, parts, date] = /^(.+?)(?: of ([a-z, ]+?))?(?:, (\d{4}-\d\d-\d\d))?$/.exec(what) ?? [];
  if (!kinds) return what;
  const list = (/** @type {string} */ terms) => terms.split(', ').map(term).join(', ');
  const of = parts ? phrase('of', { kinds: list(kinds), parts: list(parts) }) : list(kinds);
  const said = of[0].toUpperCase() + of.slice(1);
  return date ? `${said}, ${dated(new Date(date), { dateStyle: 'medium', timeZone: 'UTC' })}` : said;
}

/** "J. D., born 1970" in the shown language. @param {string} person */
function who(person) {
  const [, letters, year] = /^(.+), born (\d{4})$/.exec(person) ?? [];
  if (letters) return phrase('born', { letters, year });
  return !person || person === 'unknown' ? words['person.unknown'] : person;
}

/** What both the question and the receipt name. @param {Session} session */
function facts({ summary }) {
  const { from, to, call } = summary;
  const number = /\+?\d[\d ().-]{4,}\d/.exec(call)?.[0].replace(/[^+\d]/g, '');
  return { from, to, call, tel: number, notel: number ? '' : call, nocall: call ? '' : 'yes' };
}

/**
 * m4 arrived: the question, or what was decided before.
 * @param {Visit} visit
 * @param {Run} run
 * @param {unknown} body
 */
export async function ask(visit, run, body) {
  const m4 = exact(body, { v: is.v1, Tb: is.bytes(64), box: is.bytes() });
  if (!same(unb64(m4.Tb), run.Tb)) throw new Untrusted();
  const channel = await Channel.derive(run.key, run.sid);
  const asked = await readQuestion(run, await channel.open(m4.box));
  const session = new Session(visit, run, channel, asked, await checkCode(run.key, run.sid));
  actions.back = () => (session.decided ? receipt(session, true) : question(session));
  actions.stop = () => {
    const going = session.state === 'RELEASED';
    show('stop', { ...facts(session), going: going ? 'yes' : '', done: going ? '' : 'yes' });
  };
  actions['stop-yes'] = () => {
    if (!session.wish && SHARED.includes(session.state)) session.stop();
    receipt(session, true);
  };
  if (asked.decided) session.page = 'used';
  if (asked.state === 'OFFERED' && !asked.decided) question(session);
  else receipt(session, true);
}

/** @param {Session} session */
function question(session) {
  const { offer, summary, check } = session;
  const left = () => (session.ends - performance.now()) / 1000;
  if (left() <= 0) return show('expired');
  const ends = summary.until === offer.exp ? '' : () => clock(summary.until);
  show('ask', {
    ...facts(session),
    check,
    ends,
    what: () => scans(summary.what),
    person: () => who(summary.person),
    why: () => words[`why.${summary.why}`],
    declined: () => summary.declined && clock(summary.declined.at),
    [`declined.${summary.declined?.by}`]: 'yes',
    time: () => span(left()),
    alt: () => summary.alt.length && new Intl.ListFormat(language, { type: 'disjunction' }).format(summary.alt),
    add: () => summary.add && span(summary.add),
    extra: summary.alt.length || summary.add || ends ? 'yes' : '',
  });
  clearInterval(session.ticking);
  session.ticking = setInterval(() => {
    if (document.body.dataset.page !== 'ask') return clearInterval(session.ticking);
    if (left() <= 0) return show('expired');
    say();
  }, 15000);
  const form = find('form');
  form.by.value = session.by;
  form.onchange = () => (session.by = form.by.value);
  form.onsubmit = (/** @type {any} */ event) => {
    event.preventDefault();
    const d = event.submitter.value;
    // A no asks nothing more of anybody
    if (d === 'deny') answer(session, d, '', session.by === 'proxy' ? 'other' : 'self');
    else if (session.by === 'proxy') introduce(session);
    else answer(session, d, '', 'self');
  };
}

/** A name as it was typed or pasted: visible characters, single spaces. @param {string} typed */
export const cleaned = (typed) =>
  typed.replace(/\s/g, ' ').replace(UNSEEN, '').normalize().replace(/ +/g, ' ').trim();

/** Who speaks for the patient and says yes. @param {Session} session */
function introduce(session) {
  const values = { noname: '', long: '', norel: '' };
  show('who', values);
  const [name, rel] = [find('#name'), find('#rel')];
  find('form').onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const called = cleaned(name.value);
    const long = [...called].length > 80;
    const good = !!called && !long;
    values.noname = called ? '' : 'yes';
    values.long = long ? 'yes' : '';
    values.norel = rel.value ? '' : 'yes';
    say();
    if (good && rel.value) return answer(session, 'approve', called, rel.value);
    rel.ariaInvalid = String(!rel.value);
    name.ariaInvalid = String(!good);
    (good ? rel : name).focus();
  };
}

/** Once: a second tap finds the wish made. @param {Session} session @param {'approve' | 'deny'} d @param {string} name @param {string} rel */
function answer(session, d, name, rel) {
  if (session.wish || session.decided) return;
  session.wish = 'grant';
  show('sending');
  session.grant(d, name, rel).catch((why) => fail(why, false));
}

/** S did not take the answer. @param {Session} session @param {string} why */
function refusal(session, why) {
  if (why === 'expired' || session.state === 'EXPIRED') return show('expired');
  session.page = why === 'decided' && session.decided ? 'used' : 'refused';
  receipt(session, true);
}

/** Pages of the states; any other one has ended in a way that the staff can explain. @type {Record<string, string>} */
const PAGES = {
  OFFERED: 'sent', RELEASED: 'released', COMPLETE: 'complete', PARTIAL: 'partial', DENIED: 'denied', EXPIRED: 'expired',
  REVOKED: 'revoked', DIVERTED: 'diverted',
};
/** States in which something of the study may be at R. */
const SHARED = ['RELEASED', 'COMPLETE', 'PARTIAL', 'DIVERTED'];
/** Ends after which S tells R that the person wants to stop. */
const PASSED_ON = ['COMPLETE', 'PARTIAL'];

/**
 * How it stands. `byPerson`: what they just did brought them here, so the heading takes the focus.
 * @param {Session} session
 * @param {boolean} byPerson
 */
function receipt(session, byPerson) {
  const { state, decided, code, wish, late } = session;
  const how = () => words[`state.${state}`] ?? words['state.other'];
  const page = session.page || PAGES[state] || 'ended';
  const same = document.body.dataset.page === page;
  show(
    page,
    {
      ...facts(session),
      code,
      how,
      at: decided ? () => clock(decided.at) : '',
      yes: decided?.d === 'approve' ? 'yes' : '',
      no: decided?.d === 'deny' ? 'yes' : '',
      staff: decided?.d === 'staff' ? 'yes' : '',
      person: decided?.d === 'staff' ? '' : 'yes',
      stop: SHARED.includes(state) && decided && decided.d !== 'deny' && !wish && !late ? 'yes' : '',
      asked: wish === 'stop' ? 'yes' : '',
      late: late ? 'yes' : '',
      [late]: 'yes',
    },
    !byPerson
  );
  if (same) announce(late ? phrase('stop.late') : wish === 'stop' ? phrase('stop.asked') : how());
}
