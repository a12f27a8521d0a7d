"""The scaler against real KEDA and the real HPA controller, on a real Kafka, and against the simulator's prediction."""
