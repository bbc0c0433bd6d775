const VARINT = 0;
const FIXED_64 = 1;
const BYTES = 2;
const FIXED_32 = 5;
const WIDTHS = { [FIXED_32]: 4, [FIXED_64]: 8 };
const MAX_FIELDS = 2_000_000;
const MAX_NUMBER = 2 ** 29;

/** One protobuf message, its fields by number; nested ones are read when asked for, and nothing is copied. */
export class Message {
  #fields = new Map();
  #budget;

  /**
   * @param {Uint8Array} bytes the message in wire format
   * @param {{left: number}} [budget] fields that may still be read; shared by all messages of one file
   * @throws {RangeError} when this is not a message, or has more fields than any reader should follow
   */
  constructor(bytes, budget = { left: MAX_FIELDS }) {
    this.#budget = budget;
    const cursor = { at: 0 };
    while (cursor.at < bytes.length) {
      spend(budget);
      const tag = varint(bytes, cursor);
      const [number, kind] = [Math.floor(tag / 8), tag % 8];
      if (number === 0 || number >= MAX_NUMBER) throw new RangeError(`there is no field ${number}`);
      const values = this.#fields.get(number) ?? [];
      values.push({ kind, value: kind === VARINT ? varint(bytes, cursor) : payload(bytes, cursor, kind) });
      this.#fields.set(number, values);
    }
  }

  /**
   * @param {number} number of a field
   * @returns {boolean} whether it stands
   */
  has(number) {
    return this.#fields.has(number);
  }

  /**
   * @param {number} number of a repeated field of messages
   * @returns {Message[]} every one
   * @throws {RangeError} when the field is of another kind, or one is not a message
   */
  messages(number) {
    return this.blobs(number).map((bytes) => new Message(bytes, this.#budget));
  }

  /**
   * @param {number} number of a field that must stand once: protobuf merges one that stands twice, to deceive readers
   * @returns {Message} its message
   * @throws {RangeError} when it does not stand exactly once
   */
  message(number) {
    const found = this.messages(number);
    if (found.length !== 1) throw new RangeError(`field ${number} stands ${found.length} times instead of once`);
    return found[0];
  }

  /**
   * @param {number} number of a repeated field of bytes
   * @returns {Uint8Array[]} views of every one
   * @throws {RangeError} when the field is of another kind
   */
  blobs(number) {
    return this.#values(number, [BYTES]);
  }

  /**
   * @param {number} number of a text field that stands at most once
   * @returns {string} its text, empty when it does not stand
   * @throws {RangeError | TypeError} when it stands more often, or is not text
   */
  text(number) {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      atMostOne(this.blobs(number), number) ?? new Uint8Array(),
    );
  }

  /**
   * @param {number} number of an integer field that stands at most once
   * @returns {number} its value, exact below 2**53; 0 when it does not stand
   * @throws {RangeError} when it stands more often, or is of another kind
   */
  integer(number) {
    return atMostOne(this.integers(number), number) ?? 0;
  }

  /**
   * @param {number} number of a repeated integer field
   * @returns {number[]} every value, packed or not, exact below 2**53
   * @throws {RangeError} when the field is of another kind
   */
  integers(number) {
    return this.#values(number, [VARINT, BYTES]).flatMap((value) =>
      typeof value === "number" ? [value] : this.#unpack(value),
    );
  }

  /**
   * @param {number} number of a repeated field of reals
   * @param {4 | 8} width bytes of each
   * @returns {Uint8Array[]} the bytes of them, packed or one by one
   * @throws {RangeError} when the field is of another kind
   */
  reals(number, width) {
    return this.#values(number, [BYTES, width === 4 ? FIXED_32 : FIXED_64]);
  }

  #values(number, kinds) {
    const found = this.#fields.get(number) ?? [];
    if (!found.every(({ kind }) => kinds.includes(kind)))
      throw new RangeError(`field ${number} is of another kind than in ONNX`);
    return found.map(({ value }) => value);
  }

  #unpack(bytes) {
    const cursor = { at: 0 };
    const numbers = [];
    while (cursor.at < bytes.length) {
      spend(this.#budget);
      numbers.push(varint(bytes, cursor));
    }
    return numbers;
  }
}

function spend(budget) {
  budget.left -= 1;
  if (budget.left < 0) throw new RangeError(`it has more than ${MAX_FIELDS} fields`);
}

function atMostOne(values, number) {
  if (values.length > 1) throw new RangeError(`field ${number} stands ${values.length} times instead of once`);
  return values[0];
}

function payload(bytes, cursor, kind) {
  const length = kind === BYTES ? varint(bytes, cursor) : WIDTHS[kind];
  if (length === undefined) throw new RangeError(`a field has the unknown kind ${kind}`);
  if (length > bytes.length - cursor.at) throw new RangeError("a field reaches beyond the end of its message");
  cursor.at += length;
  return bytes.subarray(cursor.at - length, cursor.at);
}

function varint(bytes, cursor) {
  let value = 0;
  for (let scale = 1; scale <= 2 ** 63; scale *= 128) {
    const byte = bytes[cursor.at];
    if (byte === undefined) break;
    cursor.at += 1;
    value += (byte % 128) * scale;
    if (byte < 128) return value;
  }
  throw new RangeError("an integer has no end");
}
