"""Devices: whatever senses or acts, as a daemon with a driver."""
