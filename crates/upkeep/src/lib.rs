//! What the records of the journal stand for on the host: elements, bridges, ports of bridges. Pure.
