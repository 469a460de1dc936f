"""What survives `kill -9`: one SQLite file, its migrations, and the vault that seals secrets in it."""
