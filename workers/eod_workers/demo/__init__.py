"""The whole Y in one process: a played close, sized by the operator's scaling code, reconciled to the last trade."""
