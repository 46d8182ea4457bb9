mod breaks; mod executor; mod functions; mod model; mod people; mod plan; mod ports; mod queue; mod receivers; mod run; mod verdict; mod world;
pub use breaks::Break; pub use model::Violation; pub use run::{Outcome, run};
