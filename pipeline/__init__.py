"""The verbs of precept: records in, records out. Nothing here knows the database or Prefect.

One plug-in a file: `engines`, `judges`, `rewards`, `trainers`, `sources` (where prompts come from) and `suites` (how a
behaviour is measured). Every statistic is in `metrics`.
"""
