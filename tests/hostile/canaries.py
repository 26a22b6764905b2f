"""What a client and a model say, to be looked for where it must not be."""

import hashlib

BEARER = "bearer-canary-51c2"
PROMPT = "prompt-canary-9d1e"
SYSTEM = "system-canary-77aa"
SAID = "answer-canary-e03b"
ANN = {"ann": hashlib.sha256(BEARER.encode()).hexdigest()}
