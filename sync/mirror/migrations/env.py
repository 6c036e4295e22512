from receiver.database import run_migration

run_migration()
