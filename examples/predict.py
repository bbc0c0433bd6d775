"""Label images with an adapter that was trained: ``python predict.py ADAPTER IMAGE ...``."""

import sys

from fedclip_plugin import Classifier, FedClipError

if __name__ == "__main__":
    try:
        adapter, *images = sys.argv[1:]
        classifier = Classifier.load(adapter)
        for path, found in zip(images, classifier.predict(images, top=2), strict=True):
            print(path, "  ".join(f"{label} {probability:.3f}" for label, probability in found.items()))
    except FedClipError as error:
        sys.exit(str(error))
