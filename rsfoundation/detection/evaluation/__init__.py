"""From detections and labels to average precision, on patches or on merged full images."""
