"""Values: addresses, errors, reasons, schemas, forms. No I/O, no clock, no state."""
