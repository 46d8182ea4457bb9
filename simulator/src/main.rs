fn main() { for s in 0..1000 { let o = simulator::run(s, None, false); if o.violation.is_some() { println!("{o:?}"); break; } } }
