//! Tables as Docker's command line lays them out: Go's tabwriter with minimum width 10, padding 3, blanks.

/// Cells narrower than this are widened.
const MIN_WIDTH: usize = 10;
const PADDING: usize = 3;

/// Lays out lines whose cells end with a tab. A column is as wide as its widest cell in a block of consecutive lines; the
/// text behind the last tab of a line takes no part.
pub fn align(text: &str) -> String {
    align_with(text, MIN_WIDTH)
}

/// [`align`] with another minimum width; `top` uses 20.
pub fn align_with(text: &str, min_width: usize) -> String {
    let (body, end) = match text.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (text, ""),
    };
    let lines: Vec<Vec<&str>> = body
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|line| vec![0; line.len() - 1]).collect();
    for column in 0..lines.iter().map(Vec::len).max().unwrap_or(0) {
        let mut start = 0;
        while start < lines.len() {
            if lines[start].len() <= column + 1 {
                start += 1;
                continue;
            }
            let block = lines[start..]
                .iter()
                .take_while(|line| line.len() > column + 1)
                .count();
            let cells = start..start + block;
            let widest = lines[cells.clone()]
                .iter()
                .map(|line| width(line[column]))
                .max()
                .unwrap_or(0);
            // A column without any text disappears, as in Go with DiscardEmptyColumns unset only its padding stays.
            for line in &mut widths[cells] {
                line[column] = (widest + PADDING).max(min_width);
            }
            start += block;
        }
    }
    let mut out = String::with_capacity(text.len() * 2);
    for (number, (line, widths)) in lines.iter().zip(&widths).enumerate() {
        if number > 0 {
            out.push('\n');
        }
        for (column, cell) in line.iter().enumerate() {
            out.push_str(cell);
            if let Some(&wanted) = widths.get(column) {
                out.extend(std::iter::repeat_n(' ', wanted.saturating_sub(width(cell))));
            }
        }
    }
    out + end
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_match_what_docker_printed() {
        // Recorded from docker 28.2.2: `docker ps -a` with one container, and `docker images` without any.
        let row = "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tPORTS\tNAMES\n\
                   4f5c7a0d1b2e\tbusybox\t\"sleep 100\"\t2 seconds ago\tUp 1 second\t\tx\n";
        assert_eq!(
            align(row),
            "CONTAINER ID   IMAGE     COMMAND       CREATED         STATUS        PORTS     NAMES\n\
             4f5c7a0d1b2e   busybox   \"sleep 100\"   2 seconds ago   Up 1 second             x\n"
        );
        assert_eq!(
            align("REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\n"),
            "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
        );
    }

    #[test]
    fn a_line_without_the_column_ends_its_block() {
        assert_eq!(
            align("a\tb\nlong line without tabs\nccccccccccccc\td"),
            "a         b\nlong line without tabs\nccccccccccccc   d"
        );
    }
}
