"""What a basket could gain at best: with foresight, with the truth about expectations, planning."""
