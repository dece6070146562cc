"""When requests leave, how they are sent, and what came back."""
