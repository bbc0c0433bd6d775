import { BundleError } from "./errors.mjs";

const MAX_DEPTH = 32;
const MAX_DIGITS = 17;
const SPACE = /[ \t\n\r]*/y;
const PLAIN_TEXT = /[^"\\\u0000-\u001f]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const ASCII = /^[\0-\x7f]*$/;
const LITERALS = new Map([
  ["true", true],
  ["false", false],
  ["null", null],
]);
const SHORT_ESCAPES = { '"': '"', "\\": "\\", "/": "/", b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
const NEEDS_ESCAPE = /[^ !#-[\]-~]/g;

/**
 * Write a value as canonical JSON: keys sorted by code point, no spaces, ASCII only, no fractions.
 *
 * @param {unknown} value integers below 2**53, strings, booleans, null, arrays and plain objects of these
 * @returns {Uint8Array} the only bytes that mean this value
 * @throws {TypeError} for a value outside these types
 */
export function dump(value) {
  return new TextEncoder().encode(write(value));
}

/**
 * Read canonical JSON, refusing every other spelling of the same value.
 *
 * @param {Uint8Array} raw bytes as received
 * @returns {unknown} the value; objects have no prototype
 * @throws {BundleError} `not-json`, `duplicate-key` or `not-canonical`
 */
export function parse(raw) {
  const value = new Reader(decode(raw)).document();
  const again = isPlain(value) ? dump(value) : null;
  if (again === null || again.length !== raw.length || again.some((byte, at) => byte !== raw[at])) refuseSpelling();
  return value;
}

function refuseSpelling() {
  throw new BundleError(
    "not-canonical",
    "manifest.json is not canonical JSON (sorted ASCII keys, no spaces, whole numbers" +
      " only): its bytes were changed after it was made. Fetch the bundle again.",
  );
}

function isPlain(value) {
  if (typeof value === "number") return Number.isSafeInteger(value);
  if (typeof value !== "object" || value === null) return true;
  return Object.entries(value).every(([key, item]) => ASCII.test(key) && isPlain(item));
}

function decode(raw) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
  } catch (error) {
    throw new BundleError("not-json", `manifest.json is not UTF-8 text (${error.message}). Fetch the bundle again.`);
  }
}

function write(value) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return `"${value.replace(NEEDS_ESCAPE, escapeUnit)}"`;
  if (Number.isSafeInteger(value)) return String(value);
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (typeof value === "object") {
    const members = Object.keys(value)
      .sort(byCodePoint)
      .map((key) => `${write(key)}:${write(value[key])}`);
    return `{${members.join(",")}}`;
  }
  throw new TypeError(`canonical JSON has no ${typeof value} ${value}`);
}

function escapeUnit(unit) {
  const short = { '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t" }[unit];
  return short ?? `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function byCodePoint(left, right) {
  const a = Array.from(left, (char) => char.codePointAt(0));
  const b = Array.from(right, (char) => char.codePointAt(0));
  const at = a.findIndex((code, index) => code !== b[index]);
  return at < 0 ? a.length - b.length : a[at] - (b[at] ?? -1);
}

function unique(members) {
  const object = Object.create(null);
  for (const [key, value] of members) {
    if (key in object) {
      throw new BundleError(
        "duplicate-key",
        `manifest.json has the key ${JSON.stringify(key)} twice: readers would disagree` +
          " on what it says. Fetch the bundle again.",
      );
    }
    object[key] = value;
  }
  return object;
}

/** A strict JSON reader with bounded depth. */
class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  document() {
    const value = this.value(0);
    if (this.at !== this.text.length) this.fail("more text after the value");
    return value;
  }

  fail(what) {
    throw new BundleError("not-json", `manifest.json is not JSON: ${what} at character ${this.at}. Fetch it again.`);
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text)?.[0] ?? "";
    this.at += found.length;
    return found;
  }

  take(char) {
    const found = this.text[this.at] === char;
    if (found) this.at += 1;
    return found;
  }

  value(depth) {
    this.match(SPACE);
    const value = this.bare(depth);
    this.match(SPACE);
    return value;
  }

  bare(depth) {
    if (this.take("{")) return this.object(depth + 1);
    if (this.take("[")) return this.array(depth + 1);
    if (this.take('"')) return this.string();
    for (const [word, value] of LITERALS) {
      if (this.text.startsWith(word, this.at)) {
        this.at += word.length;
        return value;
      }
    }
    return this.number();
  }

  number() {
    const token = this.match(NUMBER);
    if (token === "") this.fail("no value");
    if (token.length > MAX_DIGITS || /[.eE]/.test(token)) refuseSpelling();
    return Number(token);
  }

  open(depth) {
    if (depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    this.match(SPACE);
  }

  array(depth) {
    const items = [];
    this.open(depth);
    if (this.take("]")) return items;
    do items.push(this.value(depth));
    while (this.take(","));
    if (!this.take("]")) this.fail("an array does not end");
    return items;
  }

  object(depth) {
    const members = [];
    this.open(depth);
    if (this.take("}")) return Object.create(null);
    do members.push(this.member(depth));
    while (this.take(","));
    if (!this.take("}")) this.fail("an object does not end");
    return unique(members);
  }

  member(depth) {
    this.match(SPACE);
    if (!this.take('"')) this.fail("a key is not a string");
    const key = this.string();
    this.match(SPACE);
    if (!this.take(":")) this.fail("a key has no value");
    return [key, this.value(depth)];
  }

  string() {
    let text = this.match(PLAIN_TEXT);
    while (!this.take('"')) {
      if (!this.take("\\")) this.fail("a string does not end");
      text += this.escape() + this.match(PLAIN_TEXT);
    }
    return text;
  }

  escape() {
    const char = this.text[this.at];
    this.at += 1;
    if (char === "u") {
      const digits = this.match(/[0-9a-fA-F]{4}/y);
      if (digits === "") this.fail("a broken escape");
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    if (!Object.hasOwn(SHORT_ESCAPES, char ?? "")) this.fail("a broken escape");
    return SHORT_ESCAPES[char];
  }
}
