"""Rewards by name: what an online method is told of its answers. Text in, a number out.

`build(spec)` makes one from a mapping, the same in settings, in a job file and on the command line:

    {"kind": "model", "paths": ["checkpoints/reward-a", "checkpoints/reward-b"], "combine": "minimum"}
    {"kind": "function", "name": "package.module:function"}
    {"kind": "http", "url": "http://host/score"}
    {"kind": "judge", ...}

`kind` names a module of this folder; the rest are its options, but for the shaping that any reward can have.
"""
