# SPDX-License-Identifier: Apache-2.0
"""Ask a PaddleX server what is on photographs; needs Python alone.

python client.py http://127.0.0.1:8080 photo.jpg more/*.jpg
"""

import base64
import json
import sys
import urllib.request
from pathlib import Path


def ask(server, photo, **options):
    """List the labels of one photograph: dicts with id, name and score, by falling score."""
    image = base64.b64encode(Path(photo).read_bytes()).decode()
    body = json.dumps({"image": image, "visualize": False, **options}).encode()
    request = urllib.request.Request(
        f"{server}/multilabel-image-classification", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["result"]["categories"]


if __name__ == "__main__":
    for photo in sys.argv[2:]:
        found = ask(sys.argv[1], photo)
        print(photo, ", ".join(f"{label['name']} {label['score']:.3f}" for label in found))
