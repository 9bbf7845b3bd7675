//! RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR of one pixel as TILE.
//!
//! Between copies of one value there is nothing but that value.

use bantam_model::ops::{Op, Tile};

use super::draft::{Draft, Proof, Site, is_alike};

pub(super) fn drafts(site: &Site) -> Vec<Draft> {
    draft(site).into_iter().collect()
}

fn draft(site: &Site) -> Option<Draft> {
    if !matches!(
        site.node().op,
        Op::ResizeBilinear(_) | Op::ResizeNearestNeighbor(_)
    ) {
        return None;
    }
    let (input, result) = (site.tensor(0)?, site.result()?);
    let (&[_, 1, 1, _], &[_, height, width, _]) = (&*input.shape, &*result.shape) else {
        return None;
    };
    if !is_alike(input, result) {
        return None;
    }
    let mut draft = site.draft(Proof::Same);
    let times = draft.integers("times", &[1, height as i64, width as i64, 1])?;
    draft.push(Tile, &[site.input(0)?, times], &[site.output()?]);
    Some(draft)
}

#[cfg(test)]
mod tests {
    use bantam_model::DType;
    use bantam_model::ops::{Op, ResizeBilinear, ResizeNearestNeighbor};

    use super::super::testing::{Graph, kinds, legalized, run};

    #[test]
    fn one_pixel_of_any_value_fills_the_result() {
        for (align_corners, half_pixel_centers) in [(false, false), (true, false), (false, true)] {
            let bilinear = ResizeBilinear {
                align_corners,
                half_pixel_centers,
                ..ResizeBilinear::default()
            };
            let ops = [Op::from(bilinear), ResizeNearestNeighbor::default().into()];
            for op in ops {
                let mut graph = Graph::default();
                let x = graph.input(DType::I8, &[1, 1, 1, 256], (0.1, 4));
                let size = graph.integers(&[5, 3]);
                let y = graph.output(DType::I8, &[1, 5, 3, 256], (0.1, 4));
                graph.push(op, &[x, size], &[y]);
                let model = graph.model();
                let (legal, _) = legalized(&model, &["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"]);
                assert_eq!(kinds(&legal), ["TILE"]);
                let data = [(0..=255).collect()];
                assert_eq!(run(&model, &data), run(&legal, &data));
            }
        }
    }
}
