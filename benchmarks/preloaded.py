"""What the processes of `forked` find imported. Nothing here starts a thread, which a fork would lose."""

import torch._dynamo  # noqa: F401 - the first optimizer of a process imports it

from bimo import api, quickstart  # noqa: F401
from bimo.core import registry

for _family in registry.families():
    registry.family(_family).load()
for _objective in registry.objectives():
    registry.load_objective(_objective)
