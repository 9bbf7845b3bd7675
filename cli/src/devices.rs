//! `bantam devices`: what a driver has found.

use bantam_delegate::driver::{self, Device, DriverError, DriverInfo};
use bantam_delegate::{DriverSpec, doctor};
use serde_json::{Value, json};

use crate::args::Format;
use crate::error::{self, Failure};
use crate::output;

/// List the devices of a driver, or what this machine has without one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The driver to ask [default: the system, for accelerators that are known]
    #[arg(long, value_name = "SPEC")]
    driver: Option<DriverSpec>,
    /// What goes to standard output
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let (info, devices) = match &args.driver {
        Some(spec) => asked(spec).map_err(|error| error::driver(spec, &error))?,
        None => (None, system()),
    };
    match args.format {
        Format::Json => output::print_json("devices", report(args, info.as_ref(), &devices)),
        Format::Text if devices.is_empty() => {
            let who = match &info {
                Some(info) => format!("{info} has found no device\n"),
                None => "no accelerator that is known has been found\n".to_owned(),
            };
            output::print(&who)
        }
        Format::Text => {
            let rows: Vec<[String; 2]> = devices
                .into_iter()
                .map(|device| [device.id, device.description])
                .collect();
            output::print(&output::table(&["device", "is"], &rows))
        }
    }
}

fn asked(spec: &DriverSpec) -> Result<(Option<DriverInfo>, Vec<Device>), DriverError> {
    let driver = driver::open(spec)?;
    Ok((Some(driver.info()), driver.devices()?))
}

fn system() -> Vec<Device> {
    let found = doctor::scan("/".as_ref()).into_iter();
    found
        .map(|found| Device {
            id: found.id,
            description: found.description,
        })
        .collect()
}

fn report(args: &Args, info: Option<&DriverInfo>, devices: &[Device]) -> Value {
    let devices: Vec<Value> = devices
        .iter()
        .map(|d| json!({ "description": d.description, "id": d.id }))
        .collect();
    json!({
        "devices": devices,
        "driver": args.driver.as_ref().map(ToString::to_string),
        "name": info.map(|info| &info.name),
        "target": info.and_then(|info| info.target.as_ref()),
        "version": info.map(|info| &info.version),
    })
}
