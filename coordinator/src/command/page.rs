//! Lists in pages: a cursor is the id of the last item that the caller has seen.

use super::FieldProblems;

/// Items of a page when the caller names no number.
pub(super) const PAGE_DEFAULT_ITEMS: u32 = 50;
/// Items of a page at most: a page of deployments stays below a megabyte.
pub(super) const PAGE_MAX_ITEMS: u32 = 200;

/// Which page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The last item of the page before; absent for the first page.
    pub after: Option<String>,
    /// Items at most, from 1 to [`PAGE_MAX_ITEMS`].
    pub limit: u32,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, ordered by id.
    pub items: Vec<T>,
    /// The cursor of the next page; absent on the last.
    pub next: Option<String>,
}

impl PageRequest {
    /// Checks `cursor` and `limit` as they came.
    ///
    /// # Errors
    /// When the limit is out of bounds.
    pub fn new(cursor: Option<String>, limit: Option<u32>) -> Result<Self, FieldProblems> {
        let limit = limit.unwrap_or(PAGE_DEFAULT_ITEMS);
        if limit == 0 || limit > PAGE_MAX_ITEMS {
            let mut problems = FieldProblems::default();
            problems.add("limit", format!("{limit} is out of bounds"), format!("choose 1 to {PAGE_MAX_ITEMS}"));
            return Err(problems);
        }
        Ok(Self { after: cursor, limit })
    }
}

impl<T> Page<T> {
    /// Makes a page of a query that fetched one item more than the page holds: the extra one proves that there is more.
    #[must_use]
    pub fn of(mut items: Vec<T>, request: &PageRequest, cursor: impl Fn(&T) -> String) -> Self {
        let wanted = request.limit as usize;
        let more = items.len() > wanted;
        items.truncate(wanted);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_whether_there_is_more() {
        let request = PageRequest::new(None, Some(2)).unwrap();
        let page = Page::of(vec![1, 2, 3], &request, ToString::to_string);
        assert_eq!((page.items, page.next.as_deref()), (vec![1, 2], Some("2")));
        assert_eq!(Page::of(vec![1, 2], &request, ToString::to_string).next, None);
    }

    #[test]
    fn a_page_of_nothing_or_of_everything_is_refused() {
        assert!(PageRequest::new(None, Some(0)).is_err());
        assert!(PageRequest::new(None, Some(PAGE_MAX_ITEMS + 1)).is_err());
    }
}
