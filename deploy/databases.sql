-- Run once, when PostgreSQL makes its volume; the database `prefect` is made from POSTGRES_DB.
CREATE DATABASE mlflow;
