"""The database side: catalog, plan, upgrade, DAO, cipher, journal, and a private Postgres for demo and tests."""
