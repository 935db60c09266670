//! Outlier detection: what makes a host be left out for a while.

use api::networking::OutlierDetection;
use xds::cluster::{Cluster, OutlierDetection as EnvoyDetection};
use xds::types::Percent;

use crate::translate::values::duration;

pub fn detection(written: &OutlierDetection) -> EnvoyDetection {
    let mut made = EnvoyDetection {
        // By success rate nobody is left out.
        enforcing_success_rate: Some(0),
        interval: written.interval.map(duration),
        base_ejection_time: written.base_ejection_time.map(duration),
        max_ejection_percent: u32::try_from(written.max_ejection_percent).ok().filter(|share| *share > 0),
        ..Default::default()
    };
    // The deprecated field counts gateway errors.
    if let Ok(errors @ 1..) = u32::try_from(written.consecutive_errors) {
        made.consecutive_gateway_failure = Some(errors);
        made.enforcing_consecutive_gateway_failure = Some(100);
    }
    if let Some(errors) = written.consecutive_5xx_errors {
        made.consecutive_5xx = Some(errors);
        made.enforcing_consecutive_5xx = Some(if errors > 0 { 100 } else { 0 });
    }
    if let Some(errors) = written.consecutive_gateway_errors {
        made.consecutive_gateway_failure = Some(errors);
        made.enforcing_consecutive_gateway_failure = Some(if errors > 0 { 100 } else { 0 });
    }
    if written.split_external_local_origin_errors {
        made.split_external_local_origin_errors = true;
        if let Some(failures) = written.consecutive_local_origin_failures.filter(|failures| *failures > 0) {
            made.consecutive_local_origin_failure = Some(failures);
            made.enforcing_consecutive_local_origin_failure = Some(100);
        }
        made.enforcing_local_origin_success_rate = Some(0);
    }
    made
}

/// With hosts left out, how few must remain before all are used again: none by default, so that requests fail rather
/// than go to hosts known to be bad.
pub fn panic_threshold(cluster: &mut Cluster, written: &OutlierDetection) {
    let share = f64::from(written.min_health_percent.clamp(0, 100));
    let common = cluster.common_lb_config.get_or_insert_default();
    common.healthy_panic_threshold = Some(Percent { value: share });
}
