"""Pushes files to a registry, or pulls them, as users of the oras project's Python package do.

Arguments: push REFERENCE FILE..., or pull REFERENCE FOLDER. Files are in the working directory; they keep their names.
Plain HTTP, for loopback.
"""

import sys

import oras.client

command, reference, *rest = sys.argv[1:]
client = oras.client.OrasClient(insecure=True)
if command == "push":
    print(client.push(target=reference, files=rest).status_code)
else:
    print("\n".join(client.pull(target=reference, outdir=rest[0])))
