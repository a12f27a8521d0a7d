"""What hostile bytes cost an ingestion in a process of its own, beside a counterparty that behaves: `make hostile`."""
