"""The verbs of precept: records in, records out. Nothing here knows the database or Prefect."""
