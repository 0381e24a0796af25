//! A process over time: samples that said the same, folded to points.

use rusqlite::Row as SqlRow;

use super::ProcessPoint;
use crate::{
    history::{fold::average, natural},
    people::Place,
};

/// Samples of a process that said the same.
pub(super) struct Said {
    pub(super) at: u64,
    pub(super) until: u64,
    pub(super) samples: u64,
    pub(super) memory: Option<u64>,
    pub(super) utilization: Option<u32>,
    pub(super) leased: Option<bool>,
    pub(super) place: Option<Place>,
}

impl Said {
    pub(super) fn of(row: &SqlRow<'_>) -> rusqlite::Result<Self> {
        let place: Option<i64> = row.get(6)?;
        Ok(Self {
            at: natural(row.get(0)?),
            until: natural(row.get(1)?),
            samples: natural(row.get(2)?),
            memory: row.get::<_, Option<i64>>(3)?.map(natural),
            utilization: row.get(4)?,
            leased: row.get(5)?,
            place: place.and_then(|it| match it {
                0 => Some(Place::Right),
                1 => Some(Place::Wrong),
                _ => None,
            }),
        })
    }
}

/// A point of a process that more is added to.
pub(super) struct Folded {
    pub(super) point: ProcessPoint,
    memory: (i128, u64),
    utilization: (i128, u64),
}

impl Folded {
    pub(super) fn of(said: &Said) -> Self {
        let point = ProcessPoint {
            at: said.at,
            until: said.until,
            samples: 0,
            memory_min: None,
            memory_average: None,
            memory_max: None,
            utilization_average: None,
            utilization_max: None,
            leased: None,
            place: None,
        };
        let mut folded = Self { point, memory: (0, 0), utilization: (0, 0) };
        folded.add(said);
        folded
    }

    pub(super) fn add(&mut self, said: &Said) {
        let point = &mut self.point;
        point.until = said.until;
        point.samples += said.samples;
        point.memory_min = [point.memory_min, said.memory].into_iter().flatten().min();
        point.memory_max = point.memory_max.max(said.memory);
        point.utilization_max = point.utilization_max.max(said.utilization);
        point.leased = [point.leased, said.leased].into_iter().flatten().min();
        if point.place != Some(Place::Wrong) {
            point.place = said.place.or(point.place);
        }
        let weighed = |sums: &mut (i128, u64), value: Option<u64>| {
            if let Some(value) = value {
                sums.0 += i128::from(value) * i128::from(said.samples);
                sums.1 += said.samples;
            }
        };
        weighed(&mut self.memory, said.memory);
        weighed(&mut self.utilization, said.utilization.map(u64::from));
    }

    pub(super) fn finish(mut self) -> ProcessPoint {
        self.point.memory_average = average(self.memory.0, self.memory.1);
        self.point.utilization_average = average(self.utilization.0, self.utilization.1);
        self.point
    }
}
