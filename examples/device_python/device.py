"""Install a signed bundle, label an image, take an update: ``python device.py BUNDLE KEY UPDATE IMAGE``.

Needs ``fedclip-edge[cpu,image,verify]``: neither torch nor FedML.
"""

import sys

from fedclip_edge.runtime import BundleError, EdgeClassifier, install

if __name__ == "__main__":
    bundle, key, update, image = sys.argv[1:]
    install("device", bundle, keys=[key], provider="cpu")  # once; the key is enforced from then on
    with EdgeClassifier("device", provider="cpu") as classifier:
        answer = classifier.predict(image, top=2)
        print(f"round {answer.round}: {answer.label} {answer.probability:.3f}")
        try:
            classifier.update(update)  # other threads may go on predicting meanwhile
        except BundleError as error:
            sys.exit(f"refused ({error.reason}): {error}")  # the round before goes on serving
        answer = classifier.predict(image, top=2)
        print(f"round {answer.round}: {answer.label} {answer.probability:.3f}")
