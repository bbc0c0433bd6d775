/** Why a bundle is refused; the codes are the same in every language that opens bundles. */
export const REASONS = Object.freeze(
  (
    "missing-file too-large not-regular unsigned signature not-json schema malformed product replay rollback " +
    "not-yet-valid expired other-encoder other-preprocess feature-width runtime-too-old unlisted-file file-name " +
    "size hash graph not-finite labels self-test incomplete device-state"
  ).split(" "),
);

/** A bundle that may not be run: `reason` is one of {@link REASONS}, `message` a sentence for people. */
export class BundleError extends Error {
  /** @param {string} reason one of {@link REASONS} @param {string} message what was given, the rule, and what to do */
  constructor(reason, message) {
    super(message);
    this.name = "BundleError";
    this.reason = reason;
  }
}

/** What a user can cause and mend without a bundle being at fault: a key, a folder, an image, a wrong command. */
export class EdgeError extends Error {
  /** @param {string} message what was given, the rule, and what to do */
  constructor(message) {
    super(message);
    this.name = new.target.name;
  }
}

/** A picture that cannot be classified: not a picture, damaged, or outside the limits. */
export class ImageError extends EdgeError {}

/** @param {unknown} error whose message is to stand in parentheses @returns {string} without its full stop */
export const asideOf = (error) => String(/** @type {Error} */ (error).message).replace(/\.$/, "");
