/**
 * Why a bundle is refused. The codes are the same in every language that opens bundles.
 *
 * @type {readonly string[]}
 */
export const REASONS = Object.freeze([
  "missing-file",
  "too-large",
  "not-regular",
  "unsigned",
  "signature",
  "not-json",
  "duplicate-key",
  "not-canonical",
  "schema",
  "malformed",
  "product",
  "replay",
  "rollback",
  "not-yet-valid",
  "expired",
  "other-encoder",
  "other-preprocess",
  "feature-width",
  "runtime-too-old",
  "unlisted-file",
  "file-name",
  "size",
  "hash",
  "graph",
  "not-finite",
  "labels",
  "self-test",
  "incomplete",
  "device-state",
]);

/** A bundle that may not be run. `reason` is one of {@link REASONS}; `message` is a sentence for people. */
export class BundleError extends Error {
  /**
   * @param {string} reason one of {@link REASONS}
   * @param {string} message what was given, the rule, and what to do
   * @throws {TypeError} when the reason is not one of the known codes
   */
  constructor(reason, message) {
    super(message);
    if (!REASONS.includes(reason)) throw new TypeError(`${reason} is not a known reason`);
    this.name = "BundleError";
    this.reason = reason;
  }
}

/** A picture that cannot be classified: not a picture, damaged, or outside the limits. */
export class ImageError extends Error {
  /** @param {string} message what is wrong with the picture, in a sentence for people */
  constructor(message) {
    super(message);
    this.name = "ImageError";
  }
}
