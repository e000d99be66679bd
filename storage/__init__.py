"""Where records are kept: SQLite by default, Postgres by URL. The only package that knows SQLAlchemy."""
