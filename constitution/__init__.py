"""The language of precept: principles, records and templates. Pure Python: no database, no model, no Prefect."""
